"""The SQL that deletes old rows of the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool


class Looked(NamedTuple):
    """A record that a sweep looked at, and whether its first row is old."""

    workspace_id: UUID
    due: bool


async def look(pool: Pool, *, after: UUID, days: int, limit: int) -> list[Looked]:
    """Records in the order of their workspaces' ids, behind this one. Every record has a head."""
    rows = await pool.fetch(
        """
        SELECT h.workspace_id,
               coalesce(a.created_at < now() - make_interval(days => $2), false) AS due
        FROM (
            SELECT workspace_id FROM inbox_heads
            WHERE workspace_id > $1 ORDER BY workspace_id LIMIT $3
        ) h
        LEFT JOIN LATERAL (
            SELECT created_at FROM activity_logs
            WHERE workspace_id = h.workspace_id ORDER BY created_at, record_seq LIMIT 1
        ) a ON true
        ORDER BY h.workspace_id
        """,
        after,
        days,
        limit,
    )
    return [Looked(*row) for row in rows]


async def prune(pool: Pool, workspace_id: UUID, *, days: int, limit: int) -> int:
    """Delete a record's oldest rows beyond so many days, at most `limit`; how many.

    Rows behind an undone inbox item stay.
    """
    status = await pool.execute(
        """
        DELETE FROM activity_logs WHERE id IN (
            SELECT a.id FROM activity_logs a
            WHERE a.workspace_id = $1 AND a.created_at < now() - make_interval(days => $2)
              AND NOT EXISTS (
                  SELECT FROM inbox_items x JOIN inbox_heads h USING (workspace_id)
                  WHERE x.activity_id = a.id AND x.done_at IS NULL AND x.seq > h.acked_seq
              )
            ORDER BY a.created_at, a.record_seq LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        """,
        workspace_id,
        days,
        limit,
    )
    return int(status.split()[-1])


async def delete_all(conn: Connection, workspace_ids: Sequence[UUID]) -> None:
    """Delete every row of these workspaces' records."""
    await conn.execute("DELETE FROM activity_logs WHERE workspace_id = ANY($1)", workspace_ids)
