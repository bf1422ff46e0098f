"""Which rows a caller may see at all."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.auth.principal import Principal, Role


def scope(principal: Principal) -> UUID | None:
    """The only organisation whose rows the principal may see; None means all."""
    return None if principal.role is Role.OPERATOR else principal.organization_id
