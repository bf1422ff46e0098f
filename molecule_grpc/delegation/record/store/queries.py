"""The SQL that reads the activity record, as pollers and searches do."""

from __future__ import annotations

import json
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.record.a2a import text_of

_NO_REPLY = ("notify", "chat_upload_receive")


class ActivityRow(NamedTuple):
    """A row of the record, and who its source is. Bodies and traces are JSON text.

    Args:
        inbox_seq: number of the inbox item that it is; None when it is not one.
    """

    id: UUID
    workspace_id: UUID
    activity_type: str
    source_id: UUID | None
    target_id: UUID | None
    method: str | None
    summary: str | None
    request_body: str | None
    response_body: str | None
    tool_trace: str | None
    duration_ms: int | None
    status: str
    error_detail: str | None
    created_at: datetime
    inbox_seq: int | None
    peer_name: str | None = None
    peer_role: str | None = None
    peer_url: str | None = None

    @property
    def answerable(self) -> bool:
        """Whether the row is a message that its reader may answer.

        An agent's words to the human, the notice of a file and the outcome of its own task are not:
        an agent that answered them would talk to itself.
        """
        return self._received and self.source_id != self.workspace_id

    @property
    def _received(self) -> bool:
        return self.activity_type == "a2a_receive" and self.method not in _NO_REPLY

    @property
    def text(self) -> str:
        """The text of a received row; empty for any other one.

        The text of a result is in the response; of a message that was answered at once, the
        request counts.
        """
        if not self._received:
            return ""
        bodies = (json.loads(body or "null") for body in (self.request_body, self.response_body))
        return next(filter(None, map(text_of, bodies)), "")


class ActivityFilter(NamedTuple):
    """Which rows a poller asks for. None leaves a filter out.

    Args:
        source: `canvas` for rows without a source workspace, `agent` for the others.
        peer_id: rows whose source or target is this workspace.
    """

    type: str | None = None
    source: str | None = None
    peer_id: UUID | None = None
    since: datetime | None = None
    before: datetime | None = None


class Cursor(NamedTuple):
    """The place of a row: rows after it have a higher number, and are not an hour older."""

    record_seq: int
    horizon: datetime


_ROW = """
    a.id, a.workspace_id, a.activity_type, a.source_id, a.target_id, a.method, a.summary,
    a.request_body, a.response_body, a.tool_trace, a.duration_ms, a.status, a.error_detail,
    a.created_at, a.inbox_seq
"""
_ROW_AND_PEER = f"{_ROW}, p.name, p.role, p.url"
_PEER = "LEFT JOIN workspaces p ON p.id = a.source_id"


def _list_sql(chosen: ActivityFilter, *, after: Cursor | None) -> tuple[str, list[object]]:
    """The statement with a clause for each filter that is set, so that each finds its index."""
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
    if after is not None:
        add("a.record_seq > ?", after.record_seq)
        if chosen.type is None:
            # Implied, as no transaction stays open for an hour: lets the index on time serve.
            add("a.created_at > ?", after.horizon)
        order = "a.record_seq"
    else:
        order = "a.created_at DESC, a.record_seq DESC"
    values.append(None)
    sql = f"""
        SELECT {_ROW_AND_PEER}
        FROM activity_logs a {_PEER}
        WHERE {" AND ".join(clauses)}
        ORDER BY {order} LIMIT ${len(values) + 1}
    """
    return sql, values


async def list_rows(
    pool: Pool, workspace_id: UUID, chosen: ActivityFilter, *, limit: int
) -> list[ActivityRow]:
    """Rows of a workspace's record, newest first."""
    sql, values = _list_sql(chosen, after=None)
    values[-1] = limit
    return [ActivityRow(*row) for row in await pool.fetch(sql, workspace_id, *values)]


async def list_rows_after(
    pool: Pool, workspace_id: UUID, chosen: ActivityFilter, *, cursor: Cursor, limit: int
) -> list[ActivityRow]:
    """Rows after a cursor, oldest first."""
    sql, values = _list_sql(chosen, after=cursor)
    values[-1] = limit
    return [ActivityRow(*row) for row in await pool.fetch(sql, workspace_id, *values)]


async def cursor(pool: Pool, workspace_id: UUID, activity_id: UUID) -> Cursor | None:
    """The place of a row of this workspace; None when the row is unknown or pruned."""
    row = await pool.fetchrow(
        """
        SELECT record_seq, created_at - interval '1 hour'
        FROM activity_logs WHERE id = $1 AND workspace_id = $2
        """,
        activity_id,
        workspace_id,
    )
    return Cursor(*row) if row else None


async def get(pool: Pool, workspace_id: UUID, activity_id: UUID) -> ActivityRow | None:
    """One row of a workspace's record."""
    row = await pool.fetchrow(
        f"""
        SELECT {_ROW_AND_PEER}
        FROM activity_logs a {_PEER}
        WHERE a.id = $1 AND a.workspace_id = $2
        """,
        activity_id,
        workspace_id,
    )
    return ActivityRow(*row) if row else None


async def search(
    pool: Pool, workspace_id: UUID, text: str, *, limit: int, seconds: float
) -> list[ActivityRow]:
    """Rows that contain a text in any case, newest first. The text is literal: no wildcards.

    The rows say nothing of their peers. Raises `TimeoutError` after so many seconds.
    """
    pattern = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    rows = await pool.fetch(
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
        timeout=seconds,
    )
    return [ActivityRow(*row) for row in rows]
