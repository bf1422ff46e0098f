"""The SQL of what operators decide: grants and quarantine."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.memory.store.namespaces import MAX_GRANTS


class Grant(NamedTuple):
    """A right that an operator gave. The order of the fields is that of the columns."""

    organization_id: UUID
    namespace: str
    workspace_id: UUID
    can_write: bool
    granted_by: str
    created_at: datetime


class Quarantine(NamedTuple):
    """An author whose texts nobody reads. The order of the fields is that of the columns."""

    organization_id: UUID
    author_id: UUID
    created_by: str
    reason: str
    created_at: datetime


_GRANT_COLUMNS = "organization_id, namespace, workspace_id, can_write, granted_by, created_at"

_SET_GRANT = f"""
    INSERT INTO memory_grants (organization_id, namespace, workspace_id, can_write, granted_by)
    SELECT w.organization_id, $2, w.id, $3, $4
    FROM workspaces w WHERE w.id = $1 AND w.status <> 'removed'
    ON CONFLICT (organization_id, namespace, workspace_id) DO UPDATE
    SET can_write = excluded.can_write, granted_by = excluded.granted_by
    RETURNING {_GRANT_COLUMNS}
"""

_LIST_GRANTS = f"""
    SELECT {_GRANT_COLUMNS} FROM memory_grants
    WHERE ($1::uuid IS NULL OR organization_id = $1) AND ($2 = '' OR namespace = $2)
      AND ($3::uuid IS NULL OR workspace_id = $3)
      AND ($4::text IS NULL OR (namespace, workspace_id) > ($4, $5::uuid))
    ORDER BY namespace, workspace_id LIMIT $6
"""

_QUARANTINE_COLUMNS = "organization_id, author_id, created_by, reason, created_at"

# Who was purged may have left texts in namespaces that stay.
_SET_QUARANTINE = f"""
    INSERT INTO memory_quarantine (organization_id, author_id, created_by, reason)
    SELECT organization_id, $2, $3, $4
    FROM (
        SELECT organization_id FROM workspaces WHERE id = $2
        UNION ALL
        (SELECT organization_id FROM memories WHERE author_id = $2 AND organization_id = $1 LIMIT 1)
    ) known
    WHERE $1::uuid IS NULL OR organization_id = $1 LIMIT 1
    ON CONFLICT (organization_id, author_id) DO UPDATE
    SET reason = excluded.reason, created_by = excluded.created_by
    RETURNING {_QUARANTINE_COLUMNS}
"""

_LIST_QUARANTINES = f"""
    SELECT {_QUARANTINE_COLUMNS} FROM memory_quarantine
    WHERE ($1::uuid IS NULL OR organization_id = $1)
      AND ($2::timestamptz IS NULL OR (created_at, author_id) < ($2, $3::uuid))
    ORDER BY created_at DESC, author_id DESC LIMIT $4
"""

_RELEASE_AUTHOR = """
    DELETE FROM memory_quarantine
    WHERE author_id = $2 AND ($1::uuid IS NULL OR organization_id = $1)
"""


async def set_grant(
    conn: Connection, workspace_id: UUID, namespace: str, *, can_write: bool, granted_by: str
) -> Grant | None:
    """Let a workspace read or write a namespace; None for an unknown or removed workspace."""
    row = await conn.fetchrow(_SET_GRANT, workspace_id, namespace, can_write, granted_by)
    return None if row is None else Grant(*row)


async def grants_left(conn: Connection, workspace_id: UUID, namespace: str) -> int:
    """How many other namespaces a workspace may still be given rights in."""
    used: int = await conn.fetchval(
        "SELECT count(*) FROM memory_grants WHERE workspace_id = $1 AND namespace <> $2",
        workspace_id,
        namespace,
    )
    return MAX_GRANTS - used


async def list_grants(
    pool: Pool,
    organization_id: UUID | None,
    namespace: str,
    workspace_id: UUID | None,
    *,
    after: tuple[str, UUID] | None,
    limit: int,
) -> list[Grant]:
    """Grants behind a place, by namespace and workspace."""
    place = after or (None, None)
    rows = await pool.fetch(_LIST_GRANTS, organization_id, namespace, workspace_id, *place, limit)
    return [Grant(*row) for row in rows]


async def delete_grant(conn: Connection, workspace_id: UUID, namespace: str) -> None:
    """Take a right back."""
    await conn.execute(
        "DELETE FROM memory_grants WHERE workspace_id = $1 AND namespace = $2",
        workspace_id,
        namespace,
    )


async def quarantine(
    pool: Pool, organization_id: UUID | None, author_id: UUID, reason: str, created_by: str
) -> Quarantine | None:
    """Hide an author's texts; None for an author that the organisation does not know."""
    row = await pool.fetchrow(_SET_QUARANTINE, organization_id, author_id, created_by, reason)
    return None if row is None else Quarantine(*row)


async def list_quarantines(
    pool: Pool,
    organization_id: UUID | None,
    *,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Quarantine]:
    """Hidden authors behind a place, newest first."""
    place = after or (None, None)
    rows = await pool.fetch(_LIST_QUARANTINES, organization_id, *place, limit)
    return [Quarantine(*row) for row in rows]


async def release_author(pool: Pool, organization_id: UUID | None, author_id: UUID) -> None:
    """Show an author's texts again."""
    await pool.execute(_RELEASE_AUTHOR, organization_id, author_id)
