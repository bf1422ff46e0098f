"""Opens the face for one worker."""

from __future__ import annotations

from molecule_grpc.core import Core
from molecule_grpc.faces.mcp.endpoint import Endpoint
from molecule_grpc.faces.port import Platform


def make_mcp(core: Core, platform: Platform) -> Endpoint:
    """The endpoint that CallMcp and StreamMcp serve. In development no token is limited."""
    return Endpoint(
        platform,
        core.authenticator,
        core.guards,
        core.disk,
        speaks=core.settings.faces.mcp_send_message,
        limited=not core.settings.deployment.development,
    )
