"""The SQL of items that could not be processed: seeing them, and sending them again."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.delegation.record.store.entries import APPEND


class DeadLetterQuery(NamedTuple):
    """Which dead letters to list. None leaves a filter out."""

    organization_id: UUID | None
    workspace_id: UUID | None
    before: tuple[datetime, UUID, int] | None
    limit: int


class DeadLetter(NamedTuple):
    """An item that was set aside. The order of the fields is that of the statement.

    Args:
        source_id: None for a human.
        delegation_id: None for a message.
        reason: from the agent, of the last failure.
        done_at: when the item was set aside.
        summary: None when its record has been deleted.
    """

    workspace_id: UUID
    seq: int
    message_id: str
    method: str
    source_id: UUID | None
    delegation_id: str | None
    deliveries: int
    reason: str | None
    created_at: datetime
    done_at: datetime
    summary: str | None


async def list_rows(pool: Pool, page: DeadLetterQuery) -> list[DeadLetter]:
    """Items that were set aside, newest first."""
    values: list[object] = [page.limit]
    clauses = ["x.outcome = 'poison'"]
    if page.organization_id is not None:
        values.append(page.organization_id)
        clauses.append(f"w.organization_id = ${len(values)}")
    if page.workspace_id is not None:
        values.append(page.workspace_id)
        clauses.append(f"x.workspace_id = ${len(values)}")
    if page.before is not None:
        values += page.before
        last = len(values)
        clauses.append(f"(x.done_at, x.workspace_id, x.seq) < (${last - 2}, ${last - 1}, ${last})")
    rows = await pool.fetch(
        f"""
        SELECT x.workspace_id, x.seq, x.message_id, x.method, x.source_id, x.delegation_id,
               x.deliveries, x.reason, x.created_at, x.done_at, a.summary
        FROM inbox_items x JOIN workspaces w ON w.id = x.workspace_id
        LEFT JOIN activity_logs a ON a.id = x.activity_id
        WHERE {" AND ".join(clauses)}
        ORDER BY x.done_at DESC, x.workspace_id DESC, x.seq DESC LIMIT $1
        """,
        *values,
    )
    return [DeadLetter(*row) for row in rows]


_CLOSE = """
    UPDATE inbox_items x SET outcome = $4
    FROM workspaces w {head}
    WHERE x.workspace_id = $1 AND x.seq = $2 AND x.outcome = 'poison'
      AND w.id = x.workspace_id AND ($3::uuid IS NULL OR w.organization_id = $3)
    RETURNING x.workspace_id, x.message_id, x.activity_id, x.method, x.source_id,
              x.delegation_id, x.bytes, w.organization_id
"""


async def drop(
    conn: Connection, workspace_id: UUID, seq: int, organization_id: UUID | None
) -> bool:
    """Take an item off the list for good. False when the list has no such item."""
    sql = _CLOSE.format(head="")
    return bool(await conn.fetchrow(sql, workspace_id, seq, organization_id, "dropped"))


_REPLAY = f"""
    -- The head is locked before the item, as everywhere.
    WITH head AS (SELECT workspace_id FROM inbox_heads WHERE workspace_id = $1 FOR UPDATE),
    -- The item leaves the list: a second replay at the same time finds nothing.
    closed AS ({_CLOSE.format(head="JOIN head h ON h.workspace_id = w.id")}),
    -- The item again, with the words of its first record, under a message id of its own.
    entries AS (
        SELECT 1 AS ord, 0 AS step, c.workspace_id, gen_random_uuid() AS activity_id,
               a.activity_type, a.method, a.source_id, a.target_id, a.summary,
               a.request_body::text AS request_body, a.response_body::text AS response_body,
               a.tool_trace::text AS tool_trace, a.duration_ms, a.status, a.error_detail,
               '{PLATFORM}replay:' || $2::bigint || ':' || c.message_id AS message_id,
               c.source_id AS sender_id, c.delegation_id, false AS late, c.bytes,
               NULL::float AS delay, c.organization_id, 0 AS opened
        FROM closed c JOIN activity_logs a ON a.id = c.activity_id
    ),
    {APPEND}
    SELECT seq FROM placed
"""


async def replay(
    conn: Connection, workspace_id: UUID, seq: int, organization_id: UUID | None
) -> int | None:
    """Send an item again as a new one, and return its number. None when the list has none."""
    found: int | None = await conn.fetchval(_REPLAY, workspace_id, seq, organization_id, "replayed")
    return found
