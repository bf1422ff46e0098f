"""The SQL that deletes old items of inboxes, never one that is unread and younger than 30 days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

DONE_DAYS = 7
UNDONE_DAYS = 30


class OldItem(NamedTuple):
    """An item that is older than the retention of done ones."""

    workspace_id: UUID
    created_at: datetime


async def old_items(pool: Pool, *, after: datetime | None, limit: int) -> list[OldItem]:
    """Items older than seven days, oldest first, created after this moment if one is given."""
    rows = await pool.fetch(
        f"""
        SELECT workspace_id, created_at FROM inbox_items
        WHERE created_at < now() - interval '{DONE_DAYS} days'
          AND created_at > coalesce($1, '-infinity'::timestamptz)
        ORDER BY created_at LIMIT $2
        """,
        after,
        limit,
    )
    return [OldItem(*row) for row in rows]


class Expired(NamedTuple):
    """An item that was deleted unread, with the delegation of its message, if any."""

    delegation_id: str | None
    method: str


# The lock gives the head as it is now, the items come from the snapshot: where the inbox stands
# must come from the snapshot, too, else an item that arrived between the two would count as done.
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


async def prune(conn: Connection, workspace_id: UUID) -> list[Expired]:
    """Delete the items that an inbox no longer has to keep; returns those that left unread."""
    rows = await conn.fetch(_PRUNE, workspace_id)
    return [Expired(*row) for row in rows]


async def delete_all(conn: Connection, workspace_ids: Sequence[UUID]) -> None:
    """Delete every item of these inboxes. Heads are locked first, as by every writer of items."""
    await conn.execute(
        """
        SELECT FROM inbox_heads WHERE workspace_id = ANY($1) ORDER BY workspace_id FOR UPDATE
        """,
        workspace_ids,
    )
    await conn.execute("DELETE FROM inbox_items WHERE workspace_id = ANY($1)", workspace_ids)
