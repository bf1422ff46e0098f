"""The SQL that keeps the queue in order: leases, expiry, pruning, and drops by operators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool


async def renew(pool: Pool, row_ids: Sequence[UUID], owner: str, lease_seconds: float) -> set[UUID]:
    """Extend the leases of these rows; the ids of those whose lease this owner still has."""
    rows = await pool.fetch(
        """
        UPDATE a2a_queue SET lease_until = now() + make_interval(secs => $3)
        WHERE id = ANY($1) AND lease_owner = $2 AND status = 'dispatched' RETURNING id
        """,
        list(row_ids),
        owner,
        lease_seconds,
    )
    return {row["id"] for row in rows}


async def give_back(pool: Pool, row_id: UUID, owner: str) -> None:
    """End a lease without an outcome: the next claim sends the message again."""
    await pool.execute(
        """
        UPDATE a2a_queue SET status = 'queued', lease_owner = NULL, lease_until = NULL,
               next_attempt_at = now()
        WHERE id = $1 AND lease_owner = $2 AND status = 'dispatched'
        """,
        row_id,
        owner,
    )


async def drop(pool: Pool, row_id: UUID, owner: str) -> None:
    """End a lease and drop the message, whose delegation has ended."""
    await pool.execute(
        """
        UPDATE a2a_queue SET status = 'dropped', completed_at = now(), lease_owner = NULL,
               lease_until = NULL, last_error = 'its delegation has ended'
        WHERE id = $1 AND lease_owner = $2 AND status = 'dispatched'
        """,
        row_id,
        owner,
    )


async def reclaim(pool: Pool, held: Sequence[UUID], *, limit: int) -> int:
    """Put back messages whose lease has lapsed, except those in `held`; how many."""
    status = await pool.execute(
        """
        UPDATE a2a_queue SET status = 'queued', lease_owner = NULL, lease_until = NULL,
               next_attempt_at = now(), last_error = coalesce(last_error, 'its sender was lost')
        WHERE id IN (
            SELECT id FROM a2a_queue
            WHERE status = 'dispatched' AND lease_until < now() AND id <> ALL($1)
            LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        """,
        list(held),
        limit,
    )
    return int(status.split()[-1])


async def expire(pool: Pool, *, limit: int) -> int:
    """Drop messages past their expiry; how many. Their delegations end by the deadline."""
    status = await pool.execute(
        """
        UPDATE a2a_queue SET status = 'dropped', completed_at = now(), waiting = false,
               last_error = coalesce('expired; before that: ' || last_error, 'expired')
        WHERE id IN (
            SELECT id FROM a2a_queue WHERE status = 'queued' AND expires_at <= now()
            LIMIT $1 FOR UPDATE SKIP LOCKED
        )
        """,
        limit,
    )
    return int(status.split()[-1])


async def prune(pool: Pool, *, days: int, limit: int) -> int:
    """Delete messages that ended more than so many days ago, oldest first; how many."""
    status = await pool.execute(
        """
        DELETE FROM a2a_queue WHERE id IN (
            SELECT id FROM a2a_queue
            WHERE status IN ('completed', 'dropped', 'failed')
              AND completed_at < now() - make_interval(days => $1)
            ORDER BY completed_at LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        """,
        days,
        limit,
    )
    return int(status.split()[-1])


class Waiting(NamedTuple):
    """Messages that wait for a workspace.

    Args:
        age: seconds for which the oldest has waited.
        due_in: seconds until the first may be sent; not more than 0 when it may be now.
    """

    workspace_id: UUID
    messages: int
    age: float
    due_in: float


async def waiting(pool: Pool) -> list[Waiting]:
    """Every workspace for which messages wait."""
    rows = await pool.fetch(
        """
        SELECT workspace_id, count(*), extract(epoch FROM now() - min(enqueued_at))::float,
               extract(epoch FROM min(next_attempt_at) - now())::float
        FROM a2a_queue WHERE status = 'queued' GROUP BY workspace_id
        """
    )
    return [Waiting(*row) for row in rows]


async def sleepers_in_demand(pool: Pool, *, after: UUID, limit: int) -> list[UUID]:
    """Hibernated workspaces for which a message waits, in id order behind an id.

    What lay unread in the inbox before the workspace fell asleep does not count: many agents never
    ack. A transaction that began up to 10 s before may have committed afterwards, so that does.
    """
    rows = await pool.fetch(
        """
        SELECT w.id FROM workspaces w
        WHERE w.status IN ('hibernating', 'hibernated') AND w.id > $1 AND (
            EXISTS (
                SELECT FROM a2a_queue q
                WHERE q.workspace_id = w.id AND q.status = 'queued' AND q.expires_at > now()
            )
            OR EXISTS (
                SELECT FROM inbox_heads h CROSS JOIN LATERAL (
                    SELECT created_at, done_at FROM inbox_items i
                    WHERE i.workspace_id = h.workspace_id AND i.seq > h.acked_seq
                    ORDER BY i.seq DESC LIMIT 1
                ) newest
                WHERE h.workspace_id = w.id AND newest.done_at IS NULL
                  AND newest.created_at > w.asleep_since - interval '10 seconds'
            )
        )
        ORDER BY w.id LIMIT $2
        """,
        after,
        limit,
    )
    return [row["id"] for row in rows]


class Stale(NamedTuple):
    """Which messages an operator drops. None leaves a bound out."""

    before: datetime
    workspace_id: UUID | None
    organization_id: UUID | None


_STALE = """
    q.status = 'queued' AND q.enqueued_at < $1
    AND ($2::uuid IS NULL OR q.workspace_id = $2)
    AND ($3::uuid IS NULL OR w.organization_id = $3)
"""


async def stale_delegations(pool: Pool, stale: Stale) -> list[tuple[str, UUID]]:
    """The delegations that stale messages hand over, with their callees."""
    rows = await pool.fetch(
        f"""
        SELECT q.delegation_id, q.workspace_id
        FROM a2a_queue q JOIN workspaces w ON w.id = q.workspace_id
        WHERE {_STALE} AND q.delegation_id IS NOT NULL ORDER BY q.delegation_id
        """,
        *stale,
    )
    return [(row["delegation_id"], row["workspace_id"]) for row in rows]


async def drop_stale(
    pool: Pool, stale: Stale, ended: Sequence[tuple[str, UUID]], reason: str
) -> int:
    """Drop stale messages without a delegation, and those of the `ended` delegations; how many."""
    status = await pool.execute(
        f"""
        UPDATE a2a_queue SET status = 'dropped', completed_at = now(), waiting = false,
               last_error = coalesce($4 || '; before that: ' || last_error, $4)
        WHERE id IN (
            SELECT q.id FROM a2a_queue q JOIN workspaces w ON w.id = q.workspace_id
            WHERE {_STALE} AND (
                q.delegation_id IS NULL
                OR (q.delegation_id, q.workspace_id)
                    IN (SELECT * FROM unnest($5::text[], $6::uuid[]))
            )
            FOR UPDATE OF q SKIP LOCKED
        )
        """,
        *stale,
        reason,
        [delegation_id for delegation_id, _ in ended],
        [callee_id for _, callee_id in ended],
    )
    return int(status.split()[-1])


async def delete_all(conn: Connection, workspace_ids: Sequence[UUID]) -> None:
    """Delete every message of these workspaces' queues.

    Before their inboxes: a delivery that settles locks its message first, then the head.
    """
    await conn.execute(
        """
        DELETE FROM a2a_queue WHERE id IN (
            SELECT id FROM a2a_queue WHERE workspace_id = ANY($1) ORDER BY id FOR UPDATE
        )
        """,
        workspace_ids,
    )
