"""The SQL of acks and nacks: items that are done, and items that are given back."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Writer

# An item is set aside as poison after five failed deliveries.
MAX_FAILURES = 5


class Ack(NamedTuple):
    """Items that are done: all up to `up_to`, and those in `seqs`.

    Args:
        epoch: the session that acks; None is not checked.
        generation: of the inbox that the numbers belong to; None is not checked.
    """

    workspace_id: UUID
    up_to: int
    seqs: tuple[int, ...]
    epoch: int | None
    generation: str | None = None


class AckRefusal(enum.StrEnum):
    """Why an ack marked nothing."""

    CURSOR_UNKNOWN = enum.auto()
    """Its numbers are of another generation."""
    FENCED = enum.auto()
    """Another session holds the inbox."""
    CURSOR_AHEAD = enum.auto()
    """The number is above the newest item's."""


class Acked(NamedTuple):
    """The inbox after an ack.

    Args:
        acked_seq: all items up to this one are done.
        marked: how many of the items that were named one by one became done.
    """

    acked_seq: int
    head_seq: int
    marked: int


# `acked_seq` advances to just before the first item that is not done.
#
# The head is locked before its items, as everywhere. The statement may have waited for the lock:
# the mark, and what may refuse an ack, come from the locked row as it is now. The newest item
# comes from the snapshot that the items come from, else an item that arrived meanwhile would count
# as done.
ACK = """
    WITH input AS (
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $6::text[], $7::bigint[])
            WITH ORDINALITY AS t (workspace_id, up_to, epoch, generation, highest, ord)
    ),
    locked AS (
        SELECT h.workspace_id, h.lease_epoch, h.acked_seq, h.generation, h.last_seq
        FROM input i JOIN inbox_heads h USING (workspace_id)
        ORDER BY h.workspace_id FOR UPDATE OF h
    ),
    judged AS (
        SELECT i.*, l.acked_seq, l.workspace_id IS NOT NULL AS received,
               CASE WHEN i.generation <> coalesce(l.generation::text, '') THEN 'cursor_unknown'
                    WHEN i.epoch <> l.lease_epoch THEN 'fenced'
                    WHEN i.highest > coalesce(l.last_seq, 0) THEN 'cursor_ahead' END AS refusal
        FROM input i LEFT JOIN locked l USING (workspace_id)
    ),
    admitted AS (
        SELECT j.*, h.last_seq
        FROM judged j JOIN inbox_heads h USING (workspace_id)
        WHERE j.received AND j.refusal IS NULL
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
            -- The lock passes over an item that another worker has marked since the snapshot.
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
    SELECT coalesce(v.acked_seq, 0) AS acked_seq, coalesce(v.last_seq, 0) AS last_seq, j.refusal,
           (SELECT count(*)::int FROM marked m WHERE m.workspace_id = j.workspace_id) AS marked
    FROM judged j LEFT JOIN advanced v USING (ord)
    ORDER BY j.ord
"""


async def ack(writer: Writer | Connection, acks: Sequence[Ack]) -> list[Acked | AckRefusal]:
    """Mark items as done. Each workspace may occur once. A refused ack has marked nothing."""
    singles = [(a.workspace_id, seq) for a in acks for seq in a.seqs]
    rows = await writer.fetch(
        ACK,
        [a.workspace_id for a in acks],
        [a.up_to for a in acks],
        [a.epoch for a in acks],
        [workspace_id for workspace_id, _ in singles],
        [seq for _, seq in singles],
        [a.generation for a in acks],
        [max(a.up_to, *a.seqs, 0) for a in acks],
    )
    return [
        AckRefusal(row["refusal"])
        if row["refusal"]
        else Acked(row["acked_seq"], row["last_seq"], row["marked"])
        for row in rows
    ]


class Nacked(NamedTuple):
    """The state of an item after a nack."""

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
    generation: str | None = None,
) -> Nacked | None:
    """Give an item back for `delay` seconds.

    None when there is no such undone item, the epoch is not the holder's, or the generation not
    the inbox's.
    """
    row = await conn.fetchrow(
        f"""
        WITH head AS (
            SELECT workspace_id, acked_seq, lease_epoch, generation FROM inbox_heads
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
          AND ($6::text IS NULL OR h.generation::text = $6)
        RETURNING x.deliveries, x.outcome IS NOT NULL AS poisoned, x.delegation_id, x.method
        """,
        workspace_id,
        seq,
        delay,
        reason,
        epoch,
        generation,
    )
    return Nacked(*row) if row else None
