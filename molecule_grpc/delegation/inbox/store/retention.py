"""The SQL that deletes old items of inboxes, never one that is unread and younger than allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool


class Looked(NamedTuple):
    """An inbox that a sweep looked at, and whether its first item may be old enough to leave."""

    workspace_id: UUID
    due: bool


async def look(
    pool: Pool, *, after: UUID, done_days: int, unread_days: int, limit: int
) -> list[Looked]:
    """Inboxes in the order of their ids, behind this one.

    Only a prefix of an inbox ever leaves, so that the first item tells: the cost does not grow
    with the items.
    """
    rows = await pool.fetch(
        """
        SELECT h.workspace_id,
               coalesce(
                   x.created_at < now() - make_interval(days => $2)
                   AND (x.done_at IS NOT NULL OR x.seq <= h.acked_seq
                        OR x.created_at < now() - make_interval(days => $3)), false) AS due
        FROM (
            SELECT workspace_id, oldest_seq, acked_seq FROM inbox_heads
            WHERE workspace_id > $1 ORDER BY workspace_id LIMIT $4
        ) h
        LEFT JOIN LATERAL (
            SELECT created_at, done_at, seq FROM inbox_items
            WHERE workspace_id = h.workspace_id AND seq >= h.oldest_seq ORDER BY seq LIMIT 1
        ) x ON true
        ORDER BY h.workspace_id
        """,
        after,
        done_days,
        unread_days,
        limit,
    )
    return [Looked(*row) for row in rows]


class Expired(NamedTuple):
    """An item that was deleted unread, with the delegation of its message, if any."""

    delegation_id: str | None
    method: str


class Pruned(NamedTuple):
    """How many items left, and those of them that nobody had read."""

    items: int
    expired: list[Expired]


# The lock gives the head as it is now, the items come from the snapshot: where the inbox stands
# must come from the snapshot, too, else an item that arrived between the two would count as done.
_PRUNE = """
    WITH locked AS (
        SELECT workspace_id FROM inbox_heads WHERE workspace_id = $1 FOR UPDATE SKIP LOCKED
    ),
    head AS (
        SELECT h.workspace_id, h.acked_seq, h.oldest_seq
        FROM locked JOIN inbox_heads h USING (workspace_id)
    ),
    first AS (
        SELECT x.seq, x.created_at < now() - make_interval(days => $2)
                      AND (x.done_at IS NOT NULL OR x.seq <= h.acked_seq
                           OR x.created_at < now() - make_interval(days => $3)) AS old
        FROM head h CROSS JOIN LATERAL (
            SELECT seq, created_at, done_at FROM inbox_items
            WHERE workspace_id = h.workspace_id AND seq >= h.oldest_seq ORDER BY seq LIMIT $4
        ) x
    ),
    -- Everything before the first item that must stay.
    kept AS (SELECT coalesce(min(seq) FILTER (WHERE NOT old), max(seq) + 1) AS seq FROM first),
    gone AS (
        DELETE FROM inbox_items x USING kept k, head h
        WHERE x.workspace_id = h.workspace_id AND x.seq >= h.oldest_seq AND x.seq < k.seq
        RETURNING x.seq, x.method, x.delegation_id,
                  x.seq > h.acked_seq AND x.done_at IS NULL AS unread, x.bytes_through
    ),
    moved AS (
        UPDATE inbox_heads h SET
            oldest_seq = greatest(h.oldest_seq, k.seq),
            acked_seq = greatest(h.acked_seq, k.seq - 1),
            acked_bytes = greatest(h.acked_bytes, (SELECT max(bytes_through) FROM gone))
        FROM kept k
        WHERE h.workspace_id = $1 AND EXISTS (SELECT FROM gone)
    )
    SELECT unread, delegation_id, method FROM gone
"""


async def prune(
    conn: Connection, workspace_id: UUID, *, done_days: int, unread_days: int, limit: int
) -> Pruned:
    """Delete the oldest items that an inbox no longer has to keep, at most `limit`."""
    rows = await conn.fetch(_PRUNE, workspace_id, done_days, unread_days, limit)
    expired = [Expired(row["delegation_id"], row["method"]) for row in rows if row["unread"]]
    return Pruned(len(rows), expired)


async def delete_all(conn: Connection, workspace_ids: Sequence[UUID]) -> None:
    """Delete every item of these inboxes. Heads are locked first, as by every writer of items."""
    await conn.execute(
        """
        SELECT FROM inbox_heads WHERE workspace_id = ANY($1) ORDER BY workspace_id FOR UPDATE
        """,
        workspace_ids,
    )
    await conn.execute("DELETE FROM inbox_items WHERE workspace_id = ANY($1)", workspace_ids)
