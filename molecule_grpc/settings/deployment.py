"""The kind of installation, development or production, which decides what is allowed."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import TEXT, choice, setting

PRODUCTION = "production"
DEVELOPMENT = "development"
SAAS = "saas"
SELF_HOSTED = "self-hosted"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    """The kind of installation.

    Args:
        environment: `production`, `development`, or empty for neither.
        deploy_mode: `saas` or `self-hosted`; empty for what `saas_org_id` implies.
        saas_org_id: the organisation that a SaaS installation belongs to.
    """

    environment: str = setting(
        "MOLECULE_ENV",
        choice(DEVELOPMENT, PRODUCTION, also={"dev": DEVELOPMENT, "prod": PRODUCTION}),
        "",
    )
    deploy_mode: str = setting(
        "MOLECULE_DEPLOY_MODE",
        choice(SAAS, SELF_HOSTED, also={"selfhosted": SELF_HOSTED, "standalone": SELF_HOSTED}),
        "",
    )
    saas_org_id: str = setting("MOLECULE_ORG_ID", TEXT, "")

    @property
    def production(self) -> bool:
        """Whether conveniences of development are refused."""
        return self.environment == PRODUCTION

    @property
    def development(self) -> bool:
        """Whether calls without a token pass and loopback agent URLs are allowed."""
        return self.environment == DEVELOPMENT

    @property
    def saas(self) -> bool:
        """Whether this is a shared installation: its agents live in networks of the operator."""
        return self.deploy_mode == SAAS or (not self.deploy_mode and bool(self.saas_org_id))

    @property
    def default_tier(self) -> int:
        """Size class of a workspace that states none."""
        return 4 if self.saas else 3
