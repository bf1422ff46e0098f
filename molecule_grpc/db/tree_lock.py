"""The lock that keeps the shape of an organisation's tree, and with it the rights that follow."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from molecule_grpc.db.pool import Connection


def _key(organization_id: str) -> str:
    """SQL: the key of an organisation's lock."""
    return f"hashtextextended('workspace-tree ' || {organization_id}, 0)"


_SHARE = f"SELECT pg_advisory_xact_lock_shared({_key('$1::uuid')})"
_HOLD = f"SELECT pg_advisory_xact_lock({_key('$1::uuid')})"
_TRY_SHARE = f"""
    SELECT w.id FROM workspaces w JOIN (
        SELECT organization_id, pg_try_advisory_xact_lock_shared({_key("organization_id")}) AS held
        FROM (SELECT DISTINCT organization_id FROM workspaces WHERE id = ANY ($1)) o
        OFFSET 0
    ) tree USING (organization_id)
    WHERE w.id = ANY ($1) AND tree.held
"""
_SHARE_OF_MEMBER = f"""
    SELECT w.organization_id, pg_advisory_xact_lock_shared({_key("w.organization_id")})
    FROM workspaces w WHERE w.id = $1
"""
_HOLD_OF_MEMBER = f"""
    SELECT w.organization_id, pg_advisory_xact_lock({_key("w.organization_id")})
    FROM workspaces w WHERE w.id = $1
"""


async def lock(conn: Connection, organization_id: UUID, *, shared: bool) -> None:
    """Hold the shape of an organisation's tree until the transaction ends.

    Statements that add a child share the lock, and so do those whose right follows from the tree;
    those that move or remove hold it alone. What a later statement of the transaction reads of the
    tree stays true until the transaction ends.
    """
    await conn.execute(_SHARE if shared else _HOLD, organization_id)


async def try_share(conn: Connection, workspace_ids: Sequence[UUID]) -> set[UUID]:
    """Share the locks of the trees of these workspaces without waiting.

    Returns:
        The workspaces whose tree nobody holds alone.
    """
    return {row["id"] for row in await conn.fetch(_TRY_SHARE, workspace_ids)}


async def share_of(conn: Connection, workspace_id: UUID) -> UUID | None:
    """Share the lock of a workspace's tree; its organisation, None for an unknown workspace."""
    row = await conn.fetchrow(_SHARE_OF_MEMBER, workspace_id)
    return None if row is None else row["organization_id"]


async def hold_of(conn: Connection, workspace_id: UUID) -> UUID | None:
    """Hold a workspace's tree alone; its organisation, None for an unknown workspace."""
    row = await conn.fetchrow(_HOLD_OF_MEMBER, workspace_id)
    return None if row is None else row["organization_id"]
