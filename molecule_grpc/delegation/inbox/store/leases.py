"""The SQL of leases: an inbox has one consumer at a time, whose session has a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.delegation.inbox.store.acks import MAX_FAILURES, Nacked


class Lease(NamedTuple):
    """The right to consume an inbox."""

    generation: UUID
    epoch: int
    head_seq: int
    acked_seq: int
    oldest_seq: int


class Held(NamedTuple):
    """The consumer that holds an inbox, since `age` seconds."""

    holder: str
    age: float


_TAKE = """
    UPDATE inbox_heads h SET
        lease_epoch = h.lease_epoch + 1, lease_holder = $2, lease_window = $4, lease_since = now(),
        lease_until = now() + make_interval(secs => $3), lease_after = $5, sent_seqs = '{}',
        lost_by_client = false
    WHERE h.workspace_id = $1
    RETURNING generation, lease_epoch, last_seq, acked_seq, oldest_seq
"""

# Items that the previous session had sent and that are not acked count one more delivery. A
# session that ended in good order left their numbers ($3). A session whose server died has sent at
# most its window ($4) after its start ($5); items that were given back count as repeats already.
_HAND_BACK = f"""
    WITH unacked AS (
        SELECT seq FROM unnest($3::bigint[]) s (seq)
        UNION
        (SELECT seq FROM inbox_items
         WHERE workspace_id = $1 AND seq > greatest($2::bigint, $5::bigint) AND done_at IS NULL
           AND not_before IS NULL
         ORDER BY seq LIMIT $4)
    )
    UPDATE inbox_items x SET
        deliveries = x.deliveries + 1,
        failures = x.failures + $6,
        done_at = CASE WHEN x.failures + $6 >= {MAX_FAILURES} THEN now() END,
        outcome = CASE WHEN x.failures + $6 >= {MAX_FAILURES} THEN 'poison' END,
        reason = CASE WHEN x.failures + $6 >= {MAX_FAILURES}
                      THEN 'the client was lost {MAX_FAILURES} times with it' ELSE x.reason END
    FROM unacked u
    WHERE x.workspace_id = $1 AND x.seq = u.seq AND x.seq > $2 AND x.done_at IS NULL
    RETURNING x.seq, x.outcome IS NOT NULL AS poisoned, x.delegation_id, x.method
"""


async def take(
    conn: Connection,
    workspace_id: UUID,
    consumer: str,
    *,
    seconds: float,
    window: int,
    after: int,
    takeover: bool,
    resumes_epoch: int | None,
) -> tuple[Lease | Held, list[Nacked]]:
    """Take the lease in the caller's transaction, for a session that starts after item `after`.

    Returns the lease, or its present holder; and the items that this made poison.
    """
    await conn.execute(
        "INSERT INTO inbox_heads (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING", workspace_id
    )
    held = await conn.fetchrow(
        """
        SELECT acked_seq, lease_holder, lease_epoch, lease_window, lease_after, sent_seqs,
               lost_by_client, lease_until > now() AS alive,
               extract(epoch FROM now() - lease_since)::float AS age
        FROM inbox_heads WHERE workspace_id = $1 FOR UPDATE
        """,
        workspace_id,
    )
    assert held is not None
    holder = held["lease_holder"]
    if holder is not None and held["alive"] and holder != consumer and not takeover:
        return Held(holder, held["age"] or 0.0), []
    lease = await conn.fetchrow(_TAKE, workspace_id, consumer, seconds, window, after)
    assert lease is not None
    resumed = resumes_epoch is not None and resumes_epoch == held["lease_epoch"]
    lost = held["lost_by_client"] and not resumed
    rows = await conn.fetch(
        _HAND_BACK,
        workspace_id,
        held["acked_seq"],
        held["sent_seqs"],
        held["lease_window"] if holder is not None else 0,
        held["lease_after"],
        1 if lost else 0,
    )
    poisoned = [
        Nacked(0, poisoned=True, delegation_id=row["delegation_id"], method=row["method"])
        for row in rows
        if row["poisoned"]
    ]
    return Lease(*lease), poisoned


async def release(
    pool: Pool, workspace_id: UUID, epoch: int, *, sent_seqs: Sequence[int], lost_by_client: bool
) -> None:
    """Give the lease back and leave the numbers of sent items, unless a newer session has it."""
    await pool.execute(
        """
        UPDATE inbox_heads SET lease_holder = NULL, lease_until = NULL, sent_seqs = $3,
                               lost_by_client = $4
        WHERE workspace_id = $1 AND lease_epoch = $2
        """,
        workspace_id,
        epoch,
        sent_seqs,
        lost_by_client,
    )


async def renew(pool: Pool, leases: Sequence[tuple[UUID, int]], *, seconds: float) -> set[UUID]:
    """Extend many leases with one statement; returns the inboxes that are still held."""
    rows = await pool.fetch(
        """
        WITH held AS (
            SELECT h.workspace_id FROM inbox_heads h
            JOIN unnest($1::uuid[], $2::bigint[]) l (workspace_id, epoch)
                ON l.workspace_id = h.workspace_id AND l.epoch = h.lease_epoch
            ORDER BY h.workspace_id FOR UPDATE OF h
        )
        UPDATE inbox_heads h SET lease_until = now() + make_interval(secs => $3)
        FROM held WHERE h.workspace_id = held.workspace_id
        RETURNING h.workspace_id
        """,
        [workspace_id for workspace_id, _ in leases],
        [epoch for _, epoch in leases],
        seconds,
    )
    return {row["workspace_id"] for row in rows}


class Session(NamedTuple):
    """The newest session of an inbox, and the inbox's generation; 0 and empty without items."""

    epoch: int
    generation: str


async def newest_session(conn: Connection, workspace_id: UUID) -> Session:
    """The newest session of an inbox."""
    found = await conn.fetchrow(
        "SELECT lease_epoch, generation::text FROM inbox_heads WHERE workspace_id = $1",
        workspace_id,
    )
    return Session(*found) if found else Session(0, "")


async def holder(pool: Pool, workspace_id: UUID) -> str:
    """Who holds an inbox; empty when nobody does."""
    found: str | None = await pool.fetchval(
        "SELECT lease_holder FROM inbox_heads WHERE workspace_id = $1", workspace_id
    )
    return found or ""
