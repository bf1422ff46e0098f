"""What an operator hands to whoever runs an external agent. Nothing else knows its shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from molecule_grpc.kernel.errors import Conflict, Invalid
from molecule_grpc.settings.edge import EdgeSettings
from molecule_grpc.workspace import rules
from molecule_grpc.workspace.connecting.tabs import TABS
from molecule_grpc.workspace.connecting.texts import filled

_UNSAFE = re.compile(r"[\s\"'`\\<>$]")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_RESTART_HINT = "credentials of this runtime are issued at start: POST /workspaces/{}/restart"


@dataclass(frozen=True, slots=True)
class ConnectionDetails:
    """How an agent connects as a workspace.

    Args:
        platform_url: without a trailing slash.
        auth_token: empty except where it was just minted.
    """

    workspace_id: UUID
    platform_url: str
    auth_token: str

    @property
    def registry_endpoint(self) -> str:
        """Where it registers."""
        return f"{self.platform_url}/registry/register"

    @property
    def heartbeat_endpoint(self) -> str:
        """Where its heartbeats go."""
        return f"{self.platform_url}/registry/heartbeat"

    @property
    def mcp_endpoint(self) -> str:
        """Where it finds the platform's tools."""
        return f"{self.platform_url}/workspaces/{self.workspace_id}/mcp"

    def texts(self) -> dict[str, str]:
        """What people paste, by the payload's field. A mark stands for the token."""
        return {
            tab.field: filled(tab.text, self.platform_url, self.workspace_id)
            for tab in TABS
            if tab.field
        }


def connection_details(
    platform_url: str, workspace_id: UUID, auth_token: str = ""
) -> ConnectionDetails:
    """How to connect as a workspace.

    Raises:
        Invalid: the platform URL would not survive being pasted into a shell.
    """
    base = platform_url.rstrip("/")
    if not base or _UNSAFE.search(base):
        raise Invalid("the platform URL must not contain spaces or quotes")
    return ConnectionDetails(workspace_id, base, auth_token)


def platform_url(settings: EdgeSettings, metadata: Mapping[str, str]) -> str:
    """Where agents reach this platform: as configured, else as this caller reached it."""
    if settings.external_platform_url:
        return settings.external_platform_url
    host = metadata.get("x-forwarded-host") or metadata.get("host") or ""
    if not _HOST.fullmatch(host):
        return f"{settings.scheme}://{settings.host}:{settings.port}"
    scheme = "https" if metadata.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{host}"


def require_external(workspace_id: UUID, runtime: str) -> None:
    """Raise unless a workspace's agent runs outside the platform.

    Raises:
        Conflict: RUNTIME_NOT_EXTERNAL.
    """
    if runtime != rules.EXTERNAL:
        raise Conflict(
            "only an external workspace has connection details",
            reason="RUNTIME_NOT_EXTERNAL",
            metadata={"runtime": runtime},
            body={"runtime": runtime, "hint": _RESTART_HINT.format(workspace_id)},
        )
