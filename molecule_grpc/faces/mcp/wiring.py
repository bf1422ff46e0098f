"""Opens the face for one worker."""

from __future__ import annotations

from molecule_grpc.core import Core
from molecule_grpc.faces.mcp.face import McpFace
from molecule_grpc.faces.port import Platform


def make_mcp(core: Core, platform: Platform) -> McpFace:
    """What CallMcp and StreamMcp serve. In development no token is limited."""
    return McpFace(core, platform)
