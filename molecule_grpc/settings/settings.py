"""All settings of the server. Nothing else reads the environment.

A variable that is unset or empty has its default. One that holds what is not allowed refuses to
start, and so does a setting that would weaken security where that is not allowed.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from molecule_grpc.settings.audit import AuditSettings
from molecule_grpc.settings.auth import AuthSettings
from molecule_grpc.settings.backends import EC2, BackendSettings
from molecule_grpc.settings.budgets import BudgetSettings
from molecule_grpc.settings.control_plane import ControlPlaneSettings
from molecule_grpc.settings.delegation import DelegationSettings
from molecule_grpc.settings.deployment import DEVELOPMENT, PRODUCTION, DeploymentSettings
from molecule_grpc.settings.docker import DockerSettings
from molecule_grpc.settings.ec2 import Ec2Settings
from molecule_grpc.settings.edge import EdgeSettings
from molecule_grpc.settings.egress import EgressSettings
from molecule_grpc.settings.embedding import EmbeddingSettings
from molecule_grpc.settings.faces import FacesSettings
from molecule_grpc.settings.inbox import InboxSettings
from molecule_grpc.settings.kubernetes import KubernetesSettings
from molecule_grpc.settings.memory import MemorySettings
from molecule_grpc.settings.memory_plugin import MemoryPluginSettings
from molecule_grpc.settings.outbound import OutboundSettings
from molecule_grpc.settings.process import ProcessSettings
from molecule_grpc.settings.quotas import QuotaSettings
from molecule_grpc.settings.retention import RetentionSettings
from molecule_grpc.settings.secrets import SecretsSettings
from molecule_grpc.settings.templates import TemplateSettings
from molecule_grpc.settings.upload import UploadSettings
from molecule_grpc.settings.values import SettingsError, describe_group, read_group
from molecule_grpc.settings.workspace import WorkspaceSettings

_PREFIX = "MOLECULE_"
_STRONG_TOKEN = "use one such as `openssl rand -base64 32` prints"
# Read by the command line and by clients, not by the server.
_OF_CLIENTS = (
    "MOLECULE_TOKEN",
    "MOLECULE_URL",
    "MOLECULE_CA_FILE",
    "MOLECULE_CLIENT_CERT_FILE",
    "MOLECULE_CLIENT_KEY_FILE",
)
# Switches of the platform's predecessor: what they turned on is always on here.
_WITHOUT_EFFECT = (
    "DELEGATION_LEDGER_WRITE",
    "DELEGATION_RESULT_INBOX_PUSH",
    "DELEGATION_SYNC_VIA_INBOX",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings in force, in groups; a constructor takes the group with its settings."""

    process: ProcessSettings = field(default_factory=ProcessSettings)
    edge: EdgeSettings = field(default_factory=EdgeSettings)
    deployment: DeploymentSettings = field(default_factory=DeploymentSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    workspace: WorkspaceSettings = field(default_factory=WorkspaceSettings)
    backends: BackendSettings = field(default_factory=BackendSettings)
    control_plane: ControlPlaneSettings = field(default_factory=ControlPlaneSettings)
    docker: DockerSettings = field(default_factory=DockerSettings)
    ec2: Ec2Settings = field(default_factory=Ec2Settings)
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings)
    delegation: DelegationSettings = field(default_factory=DelegationSettings)
    inbox: InboxSettings = field(default_factory=InboxSettings)
    outbound: OutboundSettings = field(default_factory=OutboundSettings)
    egress: EgressSettings = field(default_factory=EgressSettings)
    upload: UploadSettings = field(default_factory=UploadSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    plugin: MemoryPluginSettings = field(default_factory=MemoryPluginSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    faces: FacesSettings = field(default_factory=FacesSettings)
    budgets: BudgetSettings = field(default_factory=BudgetSettings)
    quotas: QuotaSettings = field(default_factory=QuotaSettings)
    secrets: SecretsSettings = field(default_factory=SecretsSettings)
    templates: TemplateSettings = field(default_factory=TemplateSettings)
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the settings.

        Raises:
            SettingsError: a variable holds what is not allowed, or a convenience of development is
                on in production.
        """
        env = os.environ if env is None else env
        groups: dict[str, Any] = {
            item.name: read_group(item.default_factory, env) for item in _group_fields()
        }
        settings = cls(**groups)
        settings._require_consistent()
        warnings = (
            *_unknown(env),
            *_without_effect(env),
            *settings._open_doors(),
            *settings._closed_doors(),
        )
        return cls(**groups, warnings=warnings)

    def describe(self) -> dict[str, str]:
        """Every variable with the value in force, secrets masked."""
        shown: dict[str, str] = {}
        for item in _group_fields():
            shown |= describe_group(getattr(self, item.name))
        return shown

    def _require_consistent(self) -> None:
        opened = [name for name, on in self.auth.open_doors.items() if on]
        if self.deployment.production and opened:
            raise SettingsError(f"{', '.join(opened)} is refused when MOLECULE_ENV={PRODUCTION}")
        if self.deployment.production and self.auth.guessable:
            raise SettingsError(f"ADMIN_TOKEN can be guessed: {_STRONG_TOKEN}")
        if self.deployment.development and not self.edge.loopback:
            raise SettingsError(
                f"MOLECULE_HOST={self.edge.host} is refused when MOLECULE_ENV={DEVELOPMENT}: calls"
                " without a token pass there, so it must be a loopback address"
            )
        self._require_whole_pair()
        named = {self.backends.backend, *self.backends.kept}
        if "control-plane" in named and not self.control_plane.base_url:
            raise SettingsError(
                "the backend control-plane needs CP_PROVISION_URL or MOLECULE_CP_URL"
            )
        if EC2 in named and not self.ec2.launch_templates:
            raise SettingsError("the backend ec2 needs MOLECULE_EC2_LAUNCH_TEMPLATES")
        if self.backends.backend == EC2 and not self.edge.external_platform_url:
            raise SettingsError(
                "MOLECULE_BACKEND=ec2 needs EXTERNAL_PLATFORM_URL: machines find the platform there"
            )
        if self.upload.store == "s3" and not self.upload.s3_bucket:
            raise SettingsError("MOLECULE_UPLOAD_STORE=s3 needs MOLECULE_S3_BUCKET")
        embedding = self.embedding
        if embedding.embedder == "openai" and not (embedding.base_url and embedding.model):
            raise SettingsError(
                "MEMORY_EMBEDDER=openai needs MEMORY_EMBED_BASE_URL and MEMORY_EMBED_MODEL"
            )

    def _require_whole_pair(self) -> None:
        pair = {
            "MOLECULE_TLS_CERT_FILE": self.edge.tls_cert_file,
            "MOLECULE_TLS_KEY_FILE": self.edge.tls_key_file,
        }
        wanting = {**pair, "MOLECULE_TLS_CLIENT_CA_FILE": self.edge.tls_client_ca_file}
        missing = [name for name, path in pair.items() if path is None]
        given = [name for name, path in wanting.items() if path is not None]
        if missing and given:
            raise SettingsError(f"{given[0]} needs {' and '.join(missing)}")

    def _open_doors(self) -> list[str]:
        opened = [name for name, on in self.auth.open_doors.items() if on]
        doors = [f"{name} is on: this installation lets strangers in" for name in opened]
        if self.deployment.development:
            doors.append("MOLECULE_ENV=development: calls without a token pass as the operator")
        elif self.auth.guessable:
            doors.append(f"ADMIN_TOKEN can be guessed: {_STRONG_TOKEN}")
        return doors

    def _closed_doors(self) -> list[str]:
        if self.deployment.saas and not self.egress.networks:
            return ["MOLECULE_AGENT_NETWORKS is empty: agents in private networks cannot be called"]
        return []


def variables() -> list[str]:
    """Every variable that the server reads."""
    return list(Settings().describe())


def _group_fields() -> list[Any]:
    return [item for item in fields(Settings) if item.name != "warnings"]


def _unknown(env: Mapping[str, str]) -> list[str]:
    """Variables with our prefix that nobody reads, each with the nearest one that is read."""
    known = [*variables(), *_OF_CLIENTS]
    lines = []
    for name in sorted(env):
        if name.startswith(_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            lines.append(f"{name} is not a setting and has no effect; did you mean {near[0]}?")
    return lines


def _without_effect(env: Mapping[str, str]) -> list[str]:
    return [
        f"{name}={env[name]!r} has no effect: the feature is always on"
        for name in _WITHOUT_EFFECT
        if env.get(name, "1") != "1"
    ]
