"""The control plane, which starts a machine for each workspace."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import SECONDS, TEXT, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneSettings:
    """How the control plane is called.

    Args:
        provision_url: its base URL.
        url: the same, where the first is empty.
        shared_secret: bearer token of its calls.
        provision_secret: the same, where the first is empty.
        console_token: bearer token for the consoles of machines; empty for the shared secret.
        timeout: seconds for one call.
    """

    provision_url: str = setting("CP_PROVISION_URL", TEXT, "")
    url: str = setting("MOLECULE_CP_URL", TEXT, "")
    shared_secret: str = setting("MOLECULE_CP_SHARED_SECRET", TEXT, "", secret=True)
    provision_secret: str = setting("PROVISION_SHARED_SECRET", TEXT, "", secret=True)
    console_token: str = setting("CP_ADMIN_API_TOKEN", TEXT, "", secret=True)
    timeout: float = setting("MOLECULE_CP_TIMEOUT_SECONDS", SECONDS, 120.0)

    @property
    def base_url(self) -> str:
        """Without a slash at its end; empty where there is no control plane."""
        return (self.provision_url or self.url).rstrip("/")

    @property
    def secret(self) -> str:
        """Bearer token of its calls."""
        return self.shared_secret or self.provision_secret
