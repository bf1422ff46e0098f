"""The faces beside gRPC and REST."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import TRUE_OR_FALSE, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class FacesSettings:
    """What the faces offer.

    Args:
        mcp_send_message: whether agents over MCP may speak to the human.
    """

    mcp_send_message: bool = setting("MOLECULE_MCP_ALLOW_SEND_MESSAGE", TRUE_OR_FALSE, False)
