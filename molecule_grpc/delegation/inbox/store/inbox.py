"""The SQL of the inbox: reading it in batches, acks, nacks, and the lease of its one consumer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool, Writer
from molecule_grpc.db.rows import columns

# After so many failed deliveries an item is set aside.
MAX_FAILURES = 5
# Larger bodies are fetched by themselves.
MAX_INLINE_BYTES = 256 * 1024


class InboxQuery(NamedTuple):
    """What a reader asks for: up to `limit` undone items after `after`."""

    workspace_id: UUID
    after: int
    limit: int


class InboxRow(NamedTuple):
    """An item as stored. `body` is JSON text; None when it is too large to travel inline."""

    seq: int
    message_id: str
    activity_id: UUID
    method: str
    source_id: UUID | None
    source_name: str | None
    delegation_id: str | None
    late: bool
    deliveries: int
    created_at: datetime
    expires_at: datetime | None
    status: str
    body: str | None


class InboxPage(NamedTuple):
    """An answer to a `InboxQuery`, all read from one snapshot.

    Args:
        generation: empty while the inbox has never received anything.
        items: those that were given back and are due, then first deliveries in order.
        retry_in: seconds until the next item that was given back is due; None when there is none.
    """

    generation: str
    head_seq: int
    acked_seq: int
    oldest_seq: int
    lease_epoch: int
    workspace_status: str
    retry_in: float | None
    items: list[InboxRow]


# One statement for all readers that ask at the same time. A workspace without a head has never
# received anything.
READ = f"""
    SELECT w.ord, h.generation, coalesce(h.last_seq, 0) AS head_seq,
           coalesce(h.acked_seq, 0) AS acked_seq, coalesce(h.oldest_seq, 1) AS oldest_seq,
           coalesce(h.lease_epoch, 0) AS lease_epoch, s.status::text AS workspace_status,
           extract(epoch FROM r.due - now())::float AS retry_in,
           i.seq, i.message_id, i.activity_id, i.method, i.source_id, p.name AS source_name,
           i.delegation_id, i.late, i.deliveries, i.created_at, i.expires_at, a.status,
           CASE WHEN i.bytes <= {MAX_INLINE_BYTES}
                THEN coalesce(a.response_body, a.request_body)::text END AS body
    FROM unnest($1::uuid[], $2::bigint[], $3::int[])
             WITH ORDINALITY AS w (workspace_id, after, wanted, ord)
    LEFT JOIN inbox_heads h USING (workspace_id)
    LEFT JOIN workspaces s ON s.id = w.workspace_id
    LEFT JOIN LATERAL (
        SELECT min(x.not_before) AS due FROM inbox_items x
        WHERE x.workspace_id = w.workspace_id AND x.done_at IS NULL AND x.not_before > now()
          AND x.seq > h.acked_seq
    ) r ON true
    LEFT JOIN LATERAL (
        (SELECT x.*, 1 AS turn FROM inbox_items x
         WHERE x.workspace_id = w.workspace_id AND x.seq > greatest(w.after, h.acked_seq)
           AND x.done_at IS NULL AND (x.not_before IS NULL OR x.not_before <= now())
         ORDER BY x.seq LIMIT w.wanted)
        UNION ALL
        (SELECT x.*, 2 FROM inbox_items x
         WHERE x.workspace_id = w.workspace_id AND x.seq <= w.after AND x.seq > h.acked_seq
           AND x.done_at IS NULL AND x.not_before <= now()
         ORDER BY x.not_before LIMIT w.wanted)
    ) i ON true
    LEFT JOIN activity_logs a ON a.id = i.activity_id
    LEFT JOIN workspaces p ON p.id = i.source_id
    ORDER BY w.ord, i.turn DESC, i.seq
"""
_HEAD_COLUMNS = 8  # of which the first is the ordinal


async def read(writer: Writer, wants: Sequence[InboxQuery]) -> list[InboxPage]:
    """Answer many readers with one statement."""
    rows = await writer.fetch(READ, *columns(wants))
    pages: list[InboxPage] = []
    last = None
    for row in rows:
        if row["ord"] != last:
            last = row["ord"]
            pages.append(
                InboxPage(
                    generation=str(row["generation"] or ""),
                    head_seq=row["head_seq"],
                    acked_seq=row["acked_seq"],
                    oldest_seq=row["oldest_seq"],
                    lease_epoch=row["lease_epoch"],
                    workspace_status=row["workspace_status"] or "",
                    retry_in=row["retry_in"],
                    items=[],
                )
            )
        if row["seq"] is not None:
            pages[-1].items.append(InboxRow(*list(row)[_HEAD_COLUMNS:]))
    return pages


class Ack(NamedTuple):
    """Items that are done: all up to `up_to`, and those in `seqs`."""

    workspace_id: UUID
    up_to: int
    seqs: tuple[int, ...]
    epoch: int | None


class Acked(NamedTuple):
    """Where the inbox stands; None when a newer session holds it."""

    acked_seq: int
    head_seq: int
    marked: int


# `acked_seq` advances to just before the first item that is not done.
#
# The head is locked before its items, as everywhere. The lock may have been waited for: whose epoch
# it is, and what is done, come from the rows as they are now. But which item is the newest comes
# from the snapshot that the items come from, else one that arrived meanwhile would count as done.
ACK = """
    WITH input AS (
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[])
            WITH ORDINALITY AS t (workspace_id, up_to, epoch, ord)
    ),
    locked AS (
        SELECT h.workspace_id, h.lease_epoch, h.acked_seq
        FROM input i JOIN inbox_heads h USING (workspace_id)
        ORDER BY h.workspace_id FOR UPDATE OF h
    ),
    admitted AS (
        SELECT i.*, l.acked_seq, h.last_seq
        FROM input i JOIN locked l USING (workspace_id) JOIN inbox_heads h USING (workspace_id)
        WHERE i.epoch IS NULL OR i.epoch = l.lease_epoch
    ),
    marked AS (
        UPDATE inbox_items x SET done_at = now(), outcome = 'done'
        FROM unnest($4::uuid[], $5::bigint[]) s (workspace_id, seq), admitted a
        WHERE x.workspace_id = s.workspace_id AND x.seq = s.seq AND a.workspace_id = s.workspace_id
          AND x.done_at IS NULL AND x.seq > a.acked_seq
        RETURNING x.workspace_id, x.seq
    ),
    reached AS (
        SELECT a.ord, a.workspace_id, coalesce(u.seq - 1, a.last_seq) AS seq
        FROM admitted a LEFT JOIN LATERAL (
            SELECT x.seq FROM inbox_items x
            WHERE x.workspace_id = a.workspace_id AND x.done_at IS NULL
              AND x.seq > greatest(a.acked_seq, least(a.up_to, a.last_seq))
              AND NOT EXISTS (SELECT FROM unnest($4::uuid[], $5::bigint[]) s (workspace_id, seq)
                              WHERE s.workspace_id = x.workspace_id AND s.seq = x.seq)
            -- Locked, one that another worker has marked since the snapshot is passed over.
            ORDER BY x.seq LIMIT 1 FOR SHARE OF x
        ) u ON true
    ),
    advanced AS (
        UPDATE inbox_heads h SET
            acked_seq = greatest(h.acked_seq, r.seq),
            acked_bytes = greatest(h.acked_bytes, (
                SELECT x.bytes_through FROM inbox_items x
                WHERE x.workspace_id = r.workspace_id AND x.seq = r.seq
            ))
        FROM reached r
        WHERE h.workspace_id = r.workspace_id
        RETURNING r.ord, h.acked_seq, h.last_seq
    )
    SELECT v.acked_seq, v.last_seq, h.workspace_id IS NOT NULL AS received,
           (SELECT count(*)::int FROM marked m WHERE m.workspace_id = i.workspace_id) AS marked
    FROM input i LEFT JOIN advanced v USING (ord) LEFT JOIN inbox_heads h USING (workspace_id)
    ORDER BY i.ord
"""


async def ack(writer: Writer | Connection, acks: Sequence[Ack]) -> list[Acked | None]:
    """Mark items as done. Each workspace may occur once. None: the epoch is not the holder's."""
    singles = [(a.workspace_id, seq) for a in acks for seq in a.seqs]
    rows = await writer.fetch(
        ACK,
        [a.workspace_id for a in acks],
        [a.up_to for a in acks],
        [a.epoch for a in acks],
        [workspace_id for workspace_id, _ in singles],
        [seq for _, seq in singles],
    )
    outcomes: list[Acked | None] = []
    for row in rows:
        if row["acked_seq"] is not None:
            outcomes.append(Acked(row["acked_seq"], row["last_seq"], row["marked"]))
        else:
            outcomes.append(None if row["received"] else Acked(0, 0, 0))
    return outcomes


class Nacked(NamedTuple):
    """What became of an item that was given back."""

    deliveries: int
    poisoned: bool
    delegation_id: str | None
    method: str


async def nack(
    conn: Connection,
    workspace_id: UUID,
    seq: int,
    *,
    delay: float,
    reason: str,
    epoch: int | None,
) -> Nacked | None:
    """Give an item back for `delay` seconds.

    None when there is no such undone item, or the epoch is not the holder's.
    """
    row = await conn.fetchrow(
        f"""
        WITH head AS (
            SELECT workspace_id, acked_seq, lease_epoch FROM inbox_heads
            WHERE workspace_id = $1 FOR UPDATE
        )
        UPDATE inbox_items x SET
            deliveries = x.deliveries + 1,
            failures = x.failures + 1,
            not_before = now() + make_interval(secs => $3),
            reason = $4,
            done_at = CASE WHEN x.failures + 1 >= {MAX_FAILURES} THEN now() END,
            outcome = CASE WHEN x.failures + 1 >= {MAX_FAILURES} THEN 'poison' END
        FROM head h
        WHERE x.workspace_id = $1 AND x.seq = $2 AND x.done_at IS NULL
          AND h.workspace_id = x.workspace_id AND x.seq > h.acked_seq
          AND ($5::bigint IS NULL OR h.lease_epoch = $5)
        RETURNING x.deliveries, x.outcome IS NOT NULL AS poisoned, x.delegation_id, x.method
        """,
        workspace_id,
        seq,
        delay,
        reason,
        epoch,
    )
    return Nacked(*row) if row else None


async def lease_epoch(conn: Connection, workspace_id: UUID) -> int:
    """Number of the newest session of an inbox."""
    found = await conn.fetchval(
        "SELECT lease_epoch FROM inbox_heads WHERE workspace_id = $1", workspace_id
    )
    return found or 0


async def seqs_of(pool: Pool, workspace_id: UUID, activity_ids: Sequence[UUID]) -> list[int]:
    """Numbers of the items that these activity rows record."""
    rows = await pool.fetch(
        """
        SELECT seq FROM inbox_items WHERE activity_id = ANY($2) AND workspace_id = $1
        """,
        workspace_id,
        activity_ids,
    )
    return [row["seq"] for row in rows]


async def undone(pool: Pool, workspace_id: UUID, seqs: Sequence[int]) -> dict[int, int]:
    """Which of these items are not done, and how often each was delivered in vain."""
    rows = await pool.fetch(
        """
        SELECT x.seq, x.deliveries FROM inbox_items x JOIN inbox_heads h USING (workspace_id)
        WHERE x.workspace_id = $1 AND x.seq = ANY($2) AND x.seq > h.acked_seq
          AND x.done_at IS NULL
        """,
        workspace_id,
        seqs,
    )
    return {row["seq"]: row["deliveries"] for row in rows}


async def holder(pool: Pool, workspace_id: UUID) -> str:
    """Who holds an inbox; empty when nobody does."""
    found: str | None = await pool.fetchval(
        "SELECT lease_holder FROM inbox_heads WHERE workspace_id = $1", workspace_id
    )
    return found or ""


async def first_since(pool: Pool, workspace_id: UUID, seconds: int) -> int | None:
    """The oldest item of the last so many seconds; None when there is none."""
    found: int | None = await pool.fetchval(
        """
        SELECT min(seq) FROM inbox_items
        WHERE workspace_id = $1 AND created_at >= now() - make_interval(secs => $2)
        """,
        workspace_id,
        seconds,
    )
    return found


class Lease(NamedTuple):
    """The right to consume an inbox."""

    generation: UUID
    epoch: int
    head_seq: int
    acked_seq: int
    oldest_seq: int


class Held(NamedTuple):
    """Who holds an inbox, and for how many seconds."""

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

# What the session before had sent and got no ack for. In good order it left the numbers ($3). When
# its server died nobody knows, but it cannot have been more than its window ($4) after its start
# ($5), beside items that were given back, which are marked as repeats already.
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


async def take_lease(
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
    """Take the inbox, inside the caller's transaction. The session starts after item `after`.

    Returns the lease, or who holds it; and the items that became poison by the way.
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


async def release_lease(
    pool: Pool, workspace_id: UUID, epoch: int, *, sent_seqs: Sequence[int], lost_by_client: bool
) -> None:
    """Leave the inbox in good order, unless a newer session has it."""
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


async def renew_leases(
    pool: Pool, leases: Sequence[tuple[UUID, int]], *, seconds: float
) -> set[UUID]:
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


class InboxPosition(NamedTuple):
    """Where an inbox stands: newest item, acked up to, session, its workspace's status."""

    head_seq: int
    acked_seq: int
    lease_epoch: int
    workspace_status: str


async def heads(pool: Pool, workspace_ids: Sequence[UUID]) -> dict[UUID, InboxPosition]:
    """Where many inboxes stand. One that never received anything is left out."""
    rows = await pool.fetch(
        """
        SELECT h.workspace_id, h.last_seq, h.acked_seq, h.lease_epoch, w.status::text
        FROM inbox_heads h JOIN workspaces w ON w.id = h.workspace_id
        WHERE h.workspace_id = ANY($1)
        """,
        workspace_ids,
    )
    return {workspace_id: InboxPosition(*values) for workspace_id, *values in rows}
