"""The SQL of reading operations, and of deleting old ones."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from molecule_grpc.backends.operations.values import Past
from molecule_grpc.db.pool import Pool

_COLUMNS = ", ".join(Past._fields)

_LIST = f"""
    SELECT {_COLUMNS} FROM workspace_operations
    WHERE workspace_id = $1 AND ($5::uuid IS NULL OR organization_id = $5)
      AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $2
"""

_DROP_OLD = """
    DELETE FROM workspace_operations WHERE id IN (
        SELECT id FROM workspace_operations
        WHERE ended_at < now() - make_interval(days => $1)
        ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ) RETURNING id
"""

# Of workspaces with operations that ended lately: others were looked at before.
_DROP_MANY = """
    DELETE FROM workspace_operations WHERE id IN (
        SELECT id FROM (
            SELECT id, row_number() OVER (
                PARTITION BY workspace_id ORDER BY created_at DESC, id DESC
            ) AS number
            FROM workspace_operations
            WHERE ended_at IS NOT NULL AND workspace_id IN (
                SELECT workspace_id FROM workspace_operations
                WHERE ended_at > now() - interval '1 hour'
            )
        ) numbered
        WHERE number > $1 LIMIT $2
    ) RETURNING id
"""


async def list_of(
    pool: Pool,
    workspace_id: UUID,
    within: UUID | None,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None,
) -> list[Past]:
    """Operations of a workspace, newest first, from behind a place.

    Args:
        within: only those of this organisation; None for any.
    """
    rows = await pool.fetch(_LIST, workspace_id, limit, *(before or (None, None)), within)
    return [Past(*row) for row in rows]


async def drop_old(pool: Pool, days: int, limit: int) -> int:
    """Delete operations that ended so long ago, at most so many."""
    return len(await pool.fetch(_DROP_OLD, days, limit))


async def drop_many(pool: Pool, most: int, limit: int) -> int:
    """Delete ended operations of workspaces that have more than `most`, the oldest ones."""
    return len(await pool.fetch(_DROP_MANY, most, limit))


async def known(pool: Pool, workspace_id: UUID, within: UUID | None) -> bool:
    """Whether a workspace has this id, removed or not."""
    found: bool = await pool.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM workspaces
            WHERE id = $1 AND ($2::uuid IS NULL OR organization_id = $2)
        )
        """,
        workspace_id,
        within,
    )
    return found
