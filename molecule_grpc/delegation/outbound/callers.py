"""Who speaks in a call about another workspace."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.auth.principal import Role
from molecule_grpc.kernel.errors import Denied, Unauthenticated
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.server.call import Call

_SYSTEM_CALLERS = ("webhook:", "system:", "test:", "channel:")


def source_of(named: str, call: Call) -> UUID | None:
    """The workspace that speaks; None for the human.

    Raises:
        Denied: a header claims to be a caller inside the platform.
        Unauthenticated: the token is not the named workspace's.
    """
    claimed = named or call.metadata.get("x-workspace-id", "")
    if claimed.startswith(_SYSTEM_CALLERS):
        raise Denied("invalid caller ID", reason="SOURCE_SPOOFED")
    principal = call.principal
    if principal.role is not Role.WORKSPACE:
        return parse_id(claimed, "source_id") if claimed else None
    if claimed and parse_id(claimed, "source_id") != principal.workspace_id:
        raise Unauthenticated("invalid workspace auth token")
    return principal.workspace_id
