"""The SQL that lets old rows go, in batches, without ever deleting what is unread."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

DONE_DAYS = 7
UNDONE_DAYS = 30


async def inboxes_due(pool: Pool, *, limit: int) -> list[UUID]:
    """Some workspaces whose inbox holds items older than the retention of done ones."""
    rows = await pool.fetch(
        f"""
        SELECT DISTINCT workspace_id FROM (
            SELECT workspace_id FROM inbox_items
            WHERE created_at < now() - interval '{DONE_DAYS} days'
            ORDER BY created_at LIMIT 10000
        ) old LIMIT $1
        """,
        limit,
    )
    return [row["workspace_id"] for row in rows]


class Expired(NamedTuple):
    """An item that left unread, and the delegation that it carried."""

    delegation_id: str | None
    method: str


# The lock gives the head as it is now, the items come from the snapshot: where the inbox stands
# must come from there too, else an item that arrived between the two would count as done.
_PRUNE = f"""
    WITH locked AS (
        SELECT workspace_id FROM inbox_heads WHERE workspace_id = $1 FOR UPDATE SKIP LOCKED
    ),
    head AS (
        SELECT h.workspace_id, h.acked_seq, h.last_seq
        FROM locked JOIN inbox_heads h USING (workspace_id)
    ),
    -- Everything before the first item that must stay.
    kept AS (
        SELECT h.workspace_id, coalesce(min(x.seq), h.last_seq + 1) AS seq
        FROM head h LEFT JOIN inbox_items x ON x.workspace_id = h.workspace_id
             AND (x.created_at >= now() - interval '{DONE_DAYS} days'
                  OR x.seq > h.acked_seq AND x.done_at IS NULL
                     AND x.created_at >= now() - interval '{UNDONE_DAYS} days')
        GROUP BY h.workspace_id, h.last_seq
    ),
    gone AS (
        DELETE FROM inbox_items x USING kept k, head h
        WHERE x.workspace_id = k.workspace_id AND x.seq < k.seq AND h.workspace_id = k.workspace_id
        RETURNING x.seq, x.method, x.delegation_id,
                  x.seq > h.acked_seq AND x.done_at IS NULL AS unread, x.bytes_through
    ),
    moved AS (
        UPDATE inbox_heads h SET
            oldest_seq = greatest(h.oldest_seq, k.seq),
            acked_seq = greatest(h.acked_seq, k.seq - 1),
            acked_bytes = greatest(h.acked_bytes, (SELECT max(bytes_through) FROM gone))
        FROM kept k
        WHERE h.workspace_id = k.workspace_id AND EXISTS (SELECT FROM gone)
    )
    SELECT delegation_id, method FROM gone WHERE unread
"""


async def prune_inbox(conn: Connection, workspace_id: UUID) -> list[Expired]:
    """Delete what an inbox no longer owes anybody; returns the items that left unread."""
    rows = await conn.fetch(_PRUNE, workspace_id)
    return [Expired(*row) for row in rows]


async def prune_activity(pool: Pool, *, days: int, limit: int) -> int:
    """Delete old rows of the record, except those behind an undone inbox item; how many."""
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


async def purge(conn: Connection, workspace_ids: list[UUID]) -> None:
    """Delete the record and inbox of workspaces that are purged. The ledger stays."""
    await conn.execute("DELETE FROM inbox_items WHERE workspace_id = ANY($1)", workspace_ids)
    await conn.execute("DELETE FROM activity_logs WHERE workspace_id = ANY($1)", workspace_ids)
