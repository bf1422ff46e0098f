"""The SQL that reads inboxes: pages for many readers at once, and positions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool, Writer
from molecule_grpc.db.rows import columns
from molecule_grpc.kernel.page import MAX_PAGE_BYTES

# Bodies above 256 KiB do not travel with their item: the client gets the activity row.
MAX_INLINE_BYTES = 256 * 1024
# All bodies of one statement, however many readers it answers. A reader gets its share of them, at
# most a page, and at least one item of each turn.
_MAX_BATCH_BYTES = 64 * 1024 * 1024


class InboxQuery(NamedTuple):
    """A reader's wish: up to `limit` undone items after `after`, and given-back items now due."""

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
        cut: whether items within the reader's limit did not fit: the reader must ask again.
    """

    generation: str
    head_seq: int
    acked_seq: int
    oldest_seq: int
    lease_epoch: int
    workspace_status: str
    retry_in: float | None
    items: list[InboxRow]
    cut: bool = False


# One statement for all readers that ask at the same time. A workspace without a row in inbox_heads
# has never received anything.
READ = f"""
    SELECT w.ord, h.generation, coalesce(h.last_seq, 0) AS head_seq,
           coalesce(h.acked_seq, 0) AS acked_seq, coalesce(h.oldest_seq, 1) AS oldest_seq,
           coalesce(h.lease_epoch, 0) AS lease_epoch, s.status::text AS workspace_status,
           extract(epoch FROM r.due - now())::float AS retry_in, i.found,
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
        -- Rows behind the reader's share of bytes are left out before their bodies are looked up.
        SELECT s.* FROM (
            SELECT t.*, count(*) OVER () AS found, row_number() OVER through AS place,
                   sum(CASE WHEN t.bytes <= {MAX_INLINE_BYTES} THEN t.bytes ELSE 0 END)
                       OVER through AS bytes_so_far
            FROM (
                (SELECT x.*, 1 AS turn FROM inbox_items x
                 WHERE x.workspace_id = w.workspace_id AND x.seq > greatest(w.after, h.acked_seq)
                   AND x.done_at IS NULL AND (x.not_before IS NULL OR x.not_before <= now())
                 ORDER BY x.seq LIMIT w.wanted)
                UNION ALL
                (SELECT x.*, 2 FROM inbox_items x
                 WHERE x.workspace_id = w.workspace_id AND x.seq <= w.after AND x.seq > h.acked_seq
                   AND x.done_at IS NULL AND x.not_before <= now()
                 ORDER BY x.not_before LIMIT w.wanted)
            ) t
            WINDOW through AS (PARTITION BY t.turn ORDER BY t.seq ROWS UNBOUNDED PRECEDING)
        ) s WHERE s.place = 1 OR s.bytes_so_far <= $4::bigint
    ) i ON true
    LEFT JOIN activity_logs a ON a.id = i.activity_id
    -- A sender that was purged may be another organisation's workspace by now.
    LEFT JOIN workspaces p ON p.id = i.source_id AND p.organization_id = s.organization_id
    ORDER BY w.ord, i.turn DESC, i.seq
"""
_HEAD_COLUMNS = 9  # of which the first is the ordinal, the last how many items were found


async def read(writer: Writer, wants: Sequence[InboxQuery]) -> list[InboxPage]:
    """Answer many readers with one statement."""
    share = min(MAX_PAGE_BYTES, _MAX_BATCH_BYTES // len(wants))
    rows = await writer.fetch(READ, *columns(wants), share)
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
            pages[-1] = pages[-1]._replace(cut=len(pages[-1].items) < row["found"])
    return pages


class InboxPosition(NamedTuple):
    """Newest item, acknowledged mark and newest session of an inbox; status of the workspace."""

    head_seq: int
    acked_seq: int
    lease_epoch: int
    workspace_status: str


async def positions(pool: Pool, workspace_ids: Sequence[UUID]) -> dict[UUID, InboxPosition]:
    """Positions of many inboxes, without those that never received anything."""
    rows = await pool.fetch(
        """
        SELECT h.workspace_id, h.last_seq, h.acked_seq, h.lease_epoch, w.status::text
        FROM inbox_heads h JOIN workspaces w ON w.id = h.workspace_id
        WHERE h.workspace_id = ANY($1)
        """,
        workspace_ids,
    )
    return {workspace_id: InboxPosition(*values) for workspace_id, *values in rows}


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
    """Those of these items that are not done, with the number of their failed deliveries."""
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


async def first_since(pool: Pool, workspace_id: UUID, seconds: int) -> int | None:
    """The oldest item of the last `seconds` seconds; None when none came."""
    found: int | None = await pool.fetchval(
        """
        SELECT min(seq) FROM inbox_items
        WHERE workspace_id = $1 AND created_at >= now() - make_interval(secs => $2)
        """,
        workspace_id,
        seconds,
    )
    return found
