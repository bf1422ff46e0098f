"""What an operator hands to whoever runs an external agent. Nothing else knows its shape."""

from __future__ import annotations

import re
from collections.abc import Mapping

from moleculeai.workspace.v1 import workspace_pb2 as pb

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.settings.edge import EdgeSettings

_UNSAFE = re.compile(r"[\s\"'`\\<>$]")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


def build_connection(platform_url: str, workspace_id: str, token: str) -> pb.ConnectionInfo:
    """How to connect as a workspace; `token` is empty except where it was just minted.

    Raises:
        Invalid: the platform URL would not survive being pasted into a shell.
    """
    base = platform_url.rstrip("/")
    if not base or _UNSAFE.search(base):
        raise Invalid("the platform URL must not contain spaces or quotes")
    return pb.ConnectionInfo(
        workspace_id=workspace_id,
        platform_url=base,
        auth_token=token,
        registry_endpoint=f"{base}/registry/register",
        heartbeat_endpoint=f"{base}/registry/heartbeat",
    )


def platform_url(settings: EdgeSettings, metadata: Mapping[str, str]) -> str:
    """Where agents reach this platform: as configured, else as this caller reached it."""
    if settings.external_platform_url:
        return settings.external_platform_url
    host = metadata.get("x-forwarded-host") or metadata.get("host") or ""
    if not _HOST.fullmatch(host):
        return f"http://{settings.host}:{settings.port}"
    scheme = "https" if metadata.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{host}"
