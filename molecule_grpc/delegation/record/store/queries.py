"""The SQL that reads the activity record, as pollers and searches do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.record.a2a import text_of
from molecule_grpc.delegation.record.store import texts
from molecule_grpc.kernel.page import MAX_PAGE_BYTES, Page

_NO_REPLY = ("notify", "chat_upload_receive")


class ActivityRow(NamedTuple):
    """A row of the record, and who its source is. Bodies and traces are JSON text.

    Args:
        inbox_seq: number of the inbox item that it is; None when it is not one.
        record_seq: its number in the record.
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
    record_seq: int
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


# Before the first row of any record.
BEGINNING = Cursor(0, datetime(1970, 1, 1, tzinfo=UTC))

# No transaction stays open for so long: a row with a higher number is not older by more.
HORIZON = timedelta(hours=1)

# Where a list of newest rows goes on: time and number of the last row seen.
Place = tuple[datetime, int]


_ROW = """
    a.id, a.workspace_id, a.activity_type, a.source_id, a.target_id, a.method, a.summary,
    a.request_body, a.response_body, a.tool_trace, a.duration_ms, a.status, a.error_detail,
    a.created_at, a.inbox_seq, a.record_seq
"""
_ROW_AND_PEER = f"{_ROW}, p.name, p.role, p.url"
# A source that was purged may be another organisation's workspace by now. OFFSET keeps this a
# look-up for each row of the page: the planner would merge the page with a walk over all ids.
_PEER = """
    LEFT JOIN LATERAL (
        SELECT name, role, url FROM workspaces w
        WHERE w.id = a.source_id AND w.organization_id = (
            SELECT o.organization_id FROM workspaces o WHERE o.id = a.workspace_id
        ) OFFSET 0
    ) p ON true
"""
# About what a row takes in an answer. Rows of older versions do not know the size of their bodies.
_BYTES = """
    1000 + coalesce(octet_length(a.summary), 0) + coalesce(octet_length(a.error_detail), 0)
    + coalesce(a.body_bytes, coalesce(octet_length(a.request_body::text), 0)
        + coalesce(octet_length(a.response_body::text), 0)
        + coalesce(octet_length(a.tool_trace::text), 0))
"""


class _Where:
    """Clauses and the values of their parameters; `$1` is the workspace."""

    def __init__(self) -> None:
        self.clauses = ["a.workspace_id = $1"]
        self.values: list[object] = []

    def add(self, clause: str, value: object) -> None:
        """A clause with `?` for the value."""
        self.values.append(value)
        self.clauses.append(clause.replace("?", f"${len(self.values) + 1}"))

    def containing(self, text: str) -> None:
        """Only rows with this text."""
        first = len(self.values) + 2
        self.values += texts.patterns(text)
        self.clauses.append(texts.matching(f"${first}", f"${first + 1}"))

    def behind(self, place: Place) -> None:
        """Only rows behind a place in the order of newest first."""
        self.add("a.created_at <= ?", place[0])
        self.add(f"(a.created_at, a.record_seq) < (${len(self.values) + 1}, ?::bigint)", place[1])


def _filtered(chosen: ActivityFilter) -> _Where:
    """A clause for each filter in use, written so that Postgres finds the index."""
    where = _Where()
    if chosen.type is not None:
        where.add("a.activity_type = ?", chosen.type)
    if chosen.source == "canvas":
        where.clauses.append("a.source_id IS NULL")
    elif chosen.source == "agent":
        where.clauses.append("a.source_id IS NOT NULL")
    if chosen.peer_id is not None:
        where.add("(a.source_id = ? OR a.target_id = ?)", chosen.peer_id)
    if chosen.since is not None:
        where.add("a.created_at >= ?", chosen.since)
    if chosen.before is not None:
        where.add("a.created_at < ?", chosen.before)
    return where


def _list_sql(where: _Where, order: str) -> str:
    """The statement of a list. Two parameters follow those of the clauses: most rows, most bytes.

    Rows behind the bytes are left out before their bodies are read; the first row always stays.
    """
    rows, size = len(where.values) + 2, len(where.values) + 3
    return f"""
        SELECT {_ROW_AND_PEER}, a.found
        FROM (
            SELECT a.*, count(*) OVER () AS found, row_number() OVER through AS place,
                   sum({_BYTES}) OVER through AS bytes_so_far
            FROM (
                SELECT * FROM activity_logs a WHERE {" AND ".join(where.clauses)}
                ORDER BY {order} LIMIT ${rows}
            ) a
            WINDOW through AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)
        ) a {_PEER}
        WHERE a.place = 1 OR a.bytes_so_far <= ${size}
        ORDER BY {order}
    """


async def list_rows(
    pool: Pool,
    workspace_id: UUID,
    chosen: ActivityFilter,
    *,
    before: Place | None = None,
    limit: int,
    max_bytes: int = MAX_PAGE_BYTES,
) -> Page[ActivityRow]:
    """Rows of a workspace's record, newest first, in a page of about `max_bytes`.

    Args:
        before: only rows behind this place.
    """
    where = _filtered(chosen)
    if before is not None:
        where.behind(before)
    sql = _list_sql(where, "a.created_at DESC, a.record_seq DESC")
    return _page(await pool.fetch(sql, workspace_id, *where.values, limit + 1, max_bytes), limit)


async def list_rows_after(
    pool: Pool,
    workspace_id: UUID,
    chosen: ActivityFilter,
    *,
    cursor: Cursor,
    limit: int,
    max_bytes: int = MAX_PAGE_BYTES,
) -> Page[ActivityRow]:
    """Rows after a cursor, oldest first, in a page of about `max_bytes`."""
    where = _filtered(chosen)
    where.add("a.record_seq > ?", cursor.record_seq)
    if chosen.type is None:
        # Implied, as no transaction stays open for an hour: lets the index on time serve.
        where.add("a.created_at > ?", cursor.horizon)
    sql = _list_sql(where, "a.record_seq")
    return _page(await pool.fetch(sql, workspace_id, *where.values, limit + 1, max_bytes), limit)


def _page(rows: list[asyncpg.Record], limit: int) -> Page[ActivityRow]:
    """The rows, each of which ends with the number of rows found."""
    found = [ActivityRow(*list(row)[:-1]) for row in rows[:limit]]
    return Page(found, more=bool(rows) and rows[0]["found"] > len(found))


async def cursor(pool: Pool, workspace_id: UUID, activity_id: UUID) -> Cursor | None:
    """The place of a row of this workspace; None when the row is unknown or pruned."""
    row = await pool.fetchrow(
        "SELECT record_seq, created_at FROM activity_logs WHERE id = $1 AND workspace_id = $2",
        activity_id,
        workspace_id,
    )
    return Cursor(row["record_seq"], row["created_at"] - HORIZON) if row else None


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
    pool: Pool,
    workspace_id: UUID,
    text: str,
    *,
    before: Place | None = None,
    limit: int,
    seconds: float,
    max_bytes: int = MAX_PAGE_BYTES,
) -> Page[ActivityRow]:
    """Rows that contain a text in any case, newest first, in a page of about `max_bytes`.

    The text is literal: no wildcards. Raises `TimeoutError` after so many seconds.

    Args:
        before: only rows behind this place.
    """
    where = _Where()
    if text:
        where.containing(text)
    if before is not None:
        where.behind(before)
    sql = _list_sql(where, "a.created_at DESC, a.record_seq DESC")
    rows = await pool.fetch(sql, workspace_id, *where.values, limit + 1, max_bytes, timeout=seconds)
    return _page(rows, limit)
