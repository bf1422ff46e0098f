"""Which workspace speaks in a call about another workspace."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.kernel.errors import Denied, Unauthenticated
from molecule_grpc.kernel.ids import parse_id

_SYSTEM_CALLERS = ("webhook:", "system:", "test:", "channel:")


def source_of(claimed: str, principal: Principal) -> UUID | None:
    """The workspace that speaks; None for the human.

    Args:
        claimed: the workspace that the caller says speaks; empty when it says nothing.

    Raises:
        Denied: SOURCE_SPOOFED: the caller claims to be a part of the platform.
        Unauthenticated: the token is not the claimed workspace's.
        Invalid: the claim is not a UUID.
    """
    if claimed.startswith(_SYSTEM_CALLERS):
        raise Denied("invalid caller ID", reason="SOURCE_SPOOFED")
    if principal.role is not Role.WORKSPACE:
        return parse_id(claimed, "source_id") if claimed else None
    if claimed and parse_id(claimed, "source_id") != principal.workspace_id:
        raise Unauthenticated("invalid workspace auth token")
    return principal.workspace_id
