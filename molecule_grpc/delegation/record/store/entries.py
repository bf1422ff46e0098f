"""How a row enters a workspace's record, and its inbox: one piece of SQL, used by every writer."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.delegation.record.store.usage import added_usage


class Entry(NamedTuple):
    """One row for a workspace's record. With a `message_id` it is an inbox item too.

    Bodies are JSON text. The fields are the columns of the row on its way, see `db.rows`.
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


# The rows of `placed` in their two tables.
_ROWS: Final = """records AS (
        INSERT INTO activity_logs (
            id, workspace_id, activity_type, method, source_id, target_id, summary, request_body,
            response_body, tool_trace, duration_ms, status, error_detail, record_seq, inbox_seq,
            body_bytes, created_at
        )
        SELECT activity_id, workspace_id, activity_type, method, source_id, target_id, summary,
               request_body::jsonb, response_body::jsonb, tool_trace::jsonb, duration_ms, status,
               error_detail, record_seq, seq,
               coalesce(octet_length(request_body), 0) + coalesce(octet_length(response_body), 0)
                   + coalesce(octet_length(tool_trace), 0),
               created_at
        FROM placed
    ),
    -- The rows that are messages.
    items AS (
        INSERT INTO inbox_items (
            workspace_id, seq, message_id, activity_id, method, source_id, delegation_id, late,
            bytes, bytes_through, not_before, created_at
        )
        SELECT workspace_id, seq, message_id, activity_id, method, sender_id, delegation_id, late,
               bytes, bytes_through, now() + make_interval(secs => delay), created_at
        FROM placed WHERE seq IS NOT NULL
    ),
"""


# Takes a CTE `entries (ord, step, <names(Entry)>, organization_id, opened)`: `ord` and `step` give
# the order of the rows within a workspace, `opened` is 1 where a delegation of the workspace begins
# with the row, -1 where one ends, else 0. Makes `placed`, which adds record_seq, seq,
# bytes_through and created_at.
def append_rows(*, checked_heads: str = "", checked_usage: str = "") -> str:
    """The SQL that enters rows, see above.

    Args:
        checked_heads: another expression to be evaluated for each head, `h` as it is then and
            `old` as it was.
        checked_usage: the same for each row `u` of `organization_usage`.
    """
    return f"""
    -- One row for each workspace: the counters of its record and inbox, moved on by this batch. Its
    -- lock makes both sequences gapless and commit-ordered. Heads are locked in the order of their
    -- ids, so that two writers with several inboxes cannot deadlock. `record_time` is the time of
    -- the workspace's newest row: rows are a microsecond apart at least, so that a time names one.
    heads AS (
        INSERT INTO inbox_heads AS h (
            workspace_id, generation, record_seq, last_seq, bytes, open_delegations, record_time
        )
        -- The generation of a new inbox is the id of a row of its record. The column's default, a
        -- random id, would be made for each head that is there already, by three system calls.
        SELECT workspace_id, any_value(activity_id), count(*), count(message_id),
               coalesce(sum(bytes) FILTER (WHERE message_id IS NOT NULL), 0), sum(opened),
               now() + (count(*) - 1) * interval '1 microsecond'
        FROM entries GROUP BY workspace_id ORDER BY workspace_id
        ON CONFLICT (workspace_id) DO UPDATE
        SET record_seq = h.record_seq + excluded.record_seq,
            last_seq = h.last_seq + excluded.last_seq,
            bytes = h.bytes + excluded.bytes,
            open_delegations = h.open_delegations + excluded.open_delegations,
            record_time = greatest(
                h.record_time + excluded.record_seq * interval '1 microsecond',
                excluded.record_time
            )
        RETURNING h.workspace_id, h.record_seq, h.last_seq, h.bytes, h.record_time
            {_also(checked_heads)}
    ),
    -- The counters stand at the last row of the batch: a row's own numbers and
    -- time are less by the later rows of the same workspace.
    placed AS (
        SELECT e.*, h.record_seq - count(*) OVER behind AS record_seq,
               CASE WHEN e.message_id IS NOT NULL
                    THEN h.last_seq - count(e.message_id) OVER behind END AS seq,
               h.bytes - coalesce(
                   sum(e.bytes) FILTER (WHERE e.message_id IS NOT NULL) OVER behind, 0
               ) AS bytes_through,
               h.record_time - (count(*) OVER behind) * interval '1 microsecond' AS created_at
        FROM entries e JOIN heads h USING (workspace_id)
        WINDOW behind AS (
            PARTITION BY workspace_id ORDER BY e.ord DESC, e.step DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    ),
    {_ROWS}
    {added_usage(checked_usage)}
"""


def _also(expression: str) -> str:
    return f", ({expression})" if expression else ""


APPEND = append_rows()


def same_message(message_id: str, workspace_id: str) -> str:
    """SQL for the items `x` of a workspace with this message id.

    Written so that only the index of message ids serves: while the table is small, Postgres takes
    the primary key as gladly, and keeps a plan that reads the whole inbox when it has grown.

    Args:
        message_id: SQL for the message id.
        workspace_id: SQL for the workspace.
    """
    wanted = f"({message_id}, {workspace_id})"
    return f"""x.message_id = {message_id}
        AND (x.message_id, x.workspace_id) >= {wanted}
        AND (x.message_id, x.workspace_id) <= {wanted}"""


class Placed(NamedTuple):
    """Where an item landed, and what a reader is shown beside what the writer knows."""

    seq: int
    message_id: str
    created_at: datetime
    sender_name: str | None


# Columns of a `Placed`, from `placed p`; all NULL where there is no item.
PLACED_COLUMNS = """
    p.seq AS item_seq, p.message_id AS item_message_id,
    CASE WHEN p.seq IS NOT NULL THEN p.created_at END AS item_created_at,
    (SELECT s.name FROM workspaces s WHERE s.id = p.sender_id) AS item_sender_name
"""


def placed(row: asyncpg.Record) -> Placed | None:
    """The `Placed` of a row with `PLACED_COLUMNS`; None where there is no item."""
    if row["item_seq"] is None:
        return None
    return Placed(
        row["item_seq"], row["item_message_id"], row["item_created_at"], row["item_sender_name"]
    )
