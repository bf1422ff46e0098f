"""The SQL of the activity record: appending to it, and reading it as pollers do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.db import rows
from molecule_grpc.db.pool import Connection, Pool, Writer
from molecule_grpc.delegation.record.store.entries import (
    APPEND,
    PLACED_COLUMNS,
    SENDER,
    Entry,
    Placed,
    placed,
)
from molecule_grpc.events.names import EventType


class Appended(NamedTuple):
    """What became of an entry.

    Args:
        seq: number of its inbox item; None when it is not one.
        activity_id: the row that records it: the first one, when the message was known.
        known: whether the inbox had this message already, so that nothing was written.
        full: whether the inbox takes no more, so that nothing was written.
        placed: the new inbox item, when there is one.
    """

    seq: int | None
    activity_id: UUID
    known: bool
    full: bool
    placed: Placed | None = None


# Parameters: the limits of an inbox, $3 and $4 the names of the events, $5 who is exempt from the
# limits, and the entries.
APPEND_ENTRIES = f"""
    WITH input AS (
        SELECT * FROM unnest($5::bool[], {rows.arrays(Entry, 6)})
            WITH ORDINALITY AS t (exempt, {rows.names(Entry)}, ord)
    ),
    -- Messages that their sender has sent before.
    known AS (
        SELECT i.ord, x.seq, x.activity_id
        FROM input i JOIN inbox_items x USING (workspace_id, message_id)
        WHERE x.source_id IS NOT DISTINCT FROM i.sender_id
    ),
    -- Messages for inboxes that are full.
    filling AS (
        SELECT i.ord
        FROM input i JOIN inbox_heads h USING (workspace_id)
        WHERE i.message_id IS NOT NULL AND NOT i.exempt
          AND (h.last_seq - h.acked_seq >= $1 OR h.bytes - h.acked_bytes >= $2)
    ),
    entries AS (
        SELECT i.*, 0 AS step FROM input i
        WHERE i.ord NOT IN (SELECT ord FROM known UNION ALL SELECT ord FROM filling)
    ),
    -- What is said to a person, and what is recorded, for whoever watches at the moment.
    shown AS (
        INSERT INTO live_events (id, event_type, organization_id, workspace_id, payload)
        SELECT gen_random_uuid(), CASE e.method WHEN 'notify' THEN $3::text ELSE $4::text END,
               w.organization_id, w.id,
               CASE e.method
                   WHEN 'notify' THEN jsonb_build_object(
                       'message', e.response_body::jsonb -> 'result', 'workspace_id', w.id,
                       'name', w.name,
                       'attachments', coalesce(e.response_body::jsonb -> 'parts', '[]'))
                   ELSE jsonb_strip_nulls(jsonb_build_object(
                       'activity_type', e.activity_type, 'method', e.method,
                       'summary', e.summary, 'status', e.status, 'source_id', e.source_id,
                       'target_id', e.target_id, 'duration_ms', e.duration_ms))
               END
        FROM entries e JOIN workspaces w ON w.id = e.workspace_id
    ),
    {APPEND}
    SELECT coalesce(p.seq, k.seq) AS seq,
           coalesce(p.activity_id, k.activity_id, i.activity_id) AS activity_id,
           k.ord IS NOT NULL AS known, f.ord IS NOT NULL AND k.ord IS NULL AS full,
           {PLACED_COLUMNS}
    FROM input i LEFT JOIN placed p USING (ord) {SENDER} LEFT JOIN known k USING (ord)
    LEFT JOIN filling f USING (ord)
    ORDER BY i.ord
"""


async def append(
    writer: Writer | Connection,
    entries: Sequence[tuple[Entry, bool]],
    *,
    max_items: int,
    max_bytes: int,
) -> list[Appended]:
    """Append entries to their records and inboxes, in this order, as one transaction.

    The flag beside an entry exempts it from the limits of the inbox.
    """
    found = await writer.fetch(
        APPEND_ENTRIES,
        max_items,
        max_bytes,
        EventType.AGENT_MESSAGE,
        EventType.ACTIVITY_LOGGED,
        [exempt for _, exempt in entries],
        *rows.columns([entry for entry, _ in entries]),
    )
    return [
        Appended(row["seq"], row["activity_id"], row["known"], row["full"], placed(row))
        for row in found
    ]


async def undone(pool: Pool | Connection, workspace_id: UUID) -> tuple[int, int]:
    """Items and body bytes that a workspace has not done, counted one by one."""
    row = await pool.fetchrow(
        """
        SELECT count(*), coalesce(sum(x.bytes), 0)
        FROM inbox_items x JOIN inbox_heads h USING (workspace_id)
        WHERE x.workspace_id = $1 AND x.seq > h.acked_seq AND x.done_at IS NULL
        """,
        workspace_id,
    )
    assert row is not None
    return row[0], row[1]


_ROW = """
    a.id, a.workspace_id, a.activity_type, a.source_id, a.target_id, a.method, a.summary,
    a.request_body, a.response_body, a.tool_trace, a.duration_ms, a.status, a.error_detail,
    a.created_at, a.inbox_seq
"""

_PEER = """
    LEFT JOIN workspaces p ON p.id = a.source_id
"""


class Filter(NamedTuple):
    """What a poller asks for. None leaves a filter out."""

    type: str | None = None
    source: str | None = None
    peer_id: UUID | None = None
    since: datetime | None = None
    before: datetime | None = None


def _list_sql(chosen: Filter, *, after: bool) -> tuple[str, list[object]]:
    """The statement for these filters: only those that are set, so that each finds its index."""
    clauses = ["a.workspace_id = $1"]
    values: list[object] = []

    def add(clause: str, value: object) -> None:
        values.append(value)
        clauses.append(clause.replace("?", f"${len(values) + 1}"))

    if chosen.type is not None:
        add("a.activity_type = ?", chosen.type)
    if chosen.source == "canvas":
        clauses.append("a.source_id IS NULL")
    elif chosen.source == "agent":
        clauses.append("a.source_id IS NOT NULL")
    if chosen.peer_id is not None:
        add("(a.source_id = ? OR a.target_id = ?)", chosen.peer_id)
    if chosen.since is not None:
        add("a.created_at >= ?", chosen.since)
    if chosen.before is not None:
        add("a.created_at < ?", chosen.before)
    if after:
        # The second condition is implied (no transaction stays open for an hour) and lets the
        # index on time serve where no type is given.
        add("a.record_seq > ?", None)
        add("a.created_at > ?", None)
        order = "a.record_seq"
    else:
        order = "a.created_at DESC, a.record_seq DESC"
    values.append(None)
    sql = f"""
        SELECT {_ROW}, p.name AS peer_name, p.role AS peer_role, p.url AS peer_url
        FROM activity_logs a {_PEER}
        WHERE {" AND ".join(clauses)}
        ORDER BY {order} LIMIT ${len(values) + 1}
    """
    return sql, values


async def list_rows(
    pool: Pool, workspace_id: UUID, chosen: Filter, *, limit: int
) -> list[asyncpg.Record]:
    """Rows of a workspace's record, newest first."""
    sql, values = _list_sql(chosen, after=False)
    values[-1] = limit
    return await pool.fetch(sql, workspace_id, *values)


async def list_rows_after(
    pool: Pool, workspace_id: UUID, chosen: Filter, *, cursor: asyncpg.Record, limit: int
) -> list[asyncpg.Record]:
    """Rows after a cursor row, oldest first."""
    sql, values = _list_sql(chosen, after=True)
    values[-3:] = [cursor["record_seq"], cursor["horizon"], limit]
    return await pool.fetch(sql, workspace_id, *values)


async def cursor(pool: Pool, workspace_id: UUID, activity_id: UUID) -> asyncpg.Record | None:
    """The position of a row of this workspace; None when there is no such row (any more)."""
    return await pool.fetchrow(
        """
        SELECT record_seq, created_at - interval '1 hour' AS horizon
        FROM activity_logs WHERE id = $1 AND workspace_id = $2
        """,
        activity_id,
        workspace_id,
    )


async def get(pool: Pool, workspace_id: UUID, activity_id: UUID) -> asyncpg.Record | None:
    """One row of a workspace's record."""
    return await pool.fetchrow(
        f"""
        SELECT {_ROW}, p.name AS peer_name, p.role AS peer_role, p.url AS peer_url
        FROM activity_logs a {_PEER}
        WHERE a.id = $1 AND a.workspace_id = $2
        """,
        activity_id,
        workspace_id,
    )


async def search(pool: Pool, workspace_id: UUID, text: str, *, limit: int) -> list[asyncpg.Record]:
    """Rows that contain a text in any case, newest first. The text is literal: no wildcards."""
    pattern = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return await pool.fetch(
        f"""
        SELECT {_ROW} FROM activity_logs a
        WHERE a.workspace_id = $1
          AND ($2 = '' OR a.summary ILIKE $3 OR a.request_body::text ILIKE $3
               OR a.response_body::text ILIKE $3)
        ORDER BY a.created_at DESC, a.record_seq DESC LIMIT $4
        """,
        workspace_id,
        text,
        f"%{pattern}%",
        limit,
    )
