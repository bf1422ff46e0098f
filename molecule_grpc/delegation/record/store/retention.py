"""The SQL that deletes old rows of the record."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool


async def prune(pool: Pool, *, days: int, limit: int) -> int:
    """Delete rows older than so many days, except those behind an undone inbox item; how many."""
    status = await pool.execute(
        """
        DELETE FROM activity_logs WHERE id IN (
            SELECT a.id FROM activity_logs a
            WHERE a.created_at < now() - make_interval(days => $1)
              AND NOT EXISTS (
                  SELECT FROM inbox_items x JOIN inbox_heads h USING (workspace_id)
                  WHERE x.activity_id = a.id AND x.done_at IS NULL AND x.seq > h.acked_seq
              )
            LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        """,
        days,
        limit,
    )
    return int(status.split()[-1])


async def delete_all(conn: Connection, workspace_ids: Sequence[UUID]) -> None:
    """Delete every row of these workspaces' records."""
    await conn.execute("DELETE FROM activity_logs WHERE workspace_id = ANY($1)", workspace_ids)
