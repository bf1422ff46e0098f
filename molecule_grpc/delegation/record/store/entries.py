"""How a row enters a workspace's record, and its inbox: one piece of SQL, used by every writer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID


class Entry(NamedTuple):
    """One row for a workspace's record. With a `message_id` it is an inbox item too.

    The order of the fields is the order of the columns in `ENTRY_COLUMNS`. Bodies are JSON text.
    """

    workspace_id: UUID
    activity_id: UUID
    activity_type: str
    method: str | None = None
    source_id: UUID | None = None
    target_id: UUID | None = None
    summary: str | None = None
    request_body: str | None = None
    response_body: str | None = None
    tool_trace: str | None = None
    duration_ms: int | None = None
    status: str = "ok"
    error_detail: str | None = None
    # The inbox item. The sender is who shall be answered; the record's source need not be.
    message_id: str | None = None
    sender_id: UUID | None = None
    delegation_id: str | None = None
    late: bool = False
    bytes: int = 0
    # Seconds before its first delivery; None for at once.
    delay: float | None = None


ENTRY_COLUMNS = """
    workspace_id, activity_id, activity_type, method, source_id, target_id, summary,
    request_body, response_body, tool_trace, duration_ms, status, error_detail,
    message_id, sender_id, delegation_id, late, bytes, delay
"""

# The arrays of `columns(entries)`, from parameter $1 on.
ENTRY_PARAMETERS = """
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::uuid[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::int[], $12::text[], $13::text[],
    $14::text[], $15::uuid[], $16::text[], $17::bool[], $18::int[], $19::float[]
"""

# Takes a CTE `entries (ord, <ENTRY_COLUMNS>)` and makes `placed`, which adds record_seq and seq.
# The head row is the lock that makes both sequences gapless and commit-ordered. Heads are taken in
# the order of their ids, so that two writers with several inboxes cannot deadlock.
APPEND = """
    numbered AS (
        SELECT e.*, row_number() OVER later AS nth, count(e.message_id) OVER later AS nth_item,
               coalesce(sum(e.bytes) FILTER (WHERE e.message_id IS NOT NULL) OVER later, 0)
                   AS through
        FROM entries e
        WINDOW later AS (PARTITION BY e.workspace_id ORDER BY e.ord)
    ),
    totals AS (
        SELECT workspace_id, count(*) AS rows, count(message_id) AS items, max(through) AS bytes
        FROM numbered GROUP BY workspace_id
    ),
    heads AS (
        INSERT INTO inbox_heads AS h (workspace_id, record_seq, last_seq, bytes)
        SELECT workspace_id, rows, items, bytes FROM totals ORDER BY workspace_id
        ON CONFLICT (workspace_id) DO UPDATE
        SET record_seq = h.record_seq + excluded.record_seq,
            last_seq = h.last_seq + excluded.last_seq,
            bytes = h.bytes + excluded.bytes
        RETURNING h.workspace_id, h.record_seq, h.last_seq, h.bytes
    ),
    placed AS (
        SELECT n.*, h.record_seq - t.rows + n.nth AS record_seq,
               CASE WHEN n.message_id IS NOT NULL THEN h.last_seq - t.items + n.nth_item END AS seq,
               h.bytes - t.bytes + n.through AS bytes_through
        FROM numbered n JOIN totals t USING (workspace_id) JOIN heads h USING (workspace_id)
    ),
    records AS (
        INSERT INTO activity_logs (
            id, workspace_id, activity_type, method, source_id, target_id, summary, request_body,
            response_body, tool_trace, duration_ms, status, error_detail, record_seq, inbox_seq
        )
        SELECT activity_id, workspace_id, activity_type, method, source_id, target_id, summary,
               request_body::jsonb, response_body::jsonb, tool_trace::jsonb, duration_ms, status,
               error_detail, record_seq, seq
        FROM placed
    ),
    items AS (
        INSERT INTO inbox_items (
            workspace_id, seq, message_id, activity_id, method, source_id, delegation_id, late,
            bytes, bytes_through, not_before
        )
        SELECT workspace_id, seq, message_id, activity_id, method, sender_id, delegation_id, late,
               bytes, bytes_through, now() + make_interval(secs => delay)
        FROM placed WHERE seq IS NOT NULL
    )
"""


class Placed(NamedTuple):
    """Where an item landed, and what a reader is shown beside what the writer knows."""

    seq: int
    message_id: str
    created_at: datetime
    sender_name: str | None


# Columns of a `Placed`, from `placed p` joined by `SENDER`; all NULL where there is no item.
PLACED_COLUMNS = "p.seq, p.message_id, CASE WHEN p.seq IS NOT NULL THEN now() END, s.name"
SENDER = "LEFT JOIN workspaces s ON s.id = p.sender_id"


def columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    """Rows as one array a column, for unnest."""
    return [list(column) for column in zip(*rows, strict=True)]


def placed(values: Sequence[Any]) -> Placed | None:
    """A `Placed` from its columns; None where there is no item."""
    return Placed(*values) if values[0] is not None else None
