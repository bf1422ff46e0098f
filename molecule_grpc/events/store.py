"""The SQL of events: writing them, and reading them as a feed that skips nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.events.names import EventType
from molecule_grpc.events.values import LAST_PLACE, EventPage, Position, Scope, StoredEvent
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.page import MAX_PAGE_BYTES, Page

# Announced after every commit that wrote events.
CHANNEL_ALL = UUID(int=0)
# Announced by workers whose clients read the feed.
CHANNEL_READERS = UUID(int=1)

_PRUNE_BATCH = 2000


class Event(NamedTuple):
    """One event to write. `payload` is JSON text."""

    id: UUID
    type: EventType
    organization_id: UUID
    workspace_id: UUID | None
    payload: str

    @classmethod
    def of(
        cls, kind: EventType, organization_id: UUID, workspace_id: UUID | None, **payload: object
    ) -> Event:
        """An event of now."""
        return cls(new_id(), kind, organization_id, workspace_id, json.dumps(payload))


_INSERT_KEPT = """
    INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
    SELECT id, event_type, organization_id, workspace_id, payload::jsonb
    FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[])
        AS t (id, event_type, organization_id, workspace_id, payload)
"""


async def keep(conn: Connection, events: Sequence[Event]) -> None:
    """Store events in the caller's transaction: they happen when it commits."""
    if events:
        await conn.execute(_INSERT_KEPT, *_columns(events))


def _columns(events: Sequence[Event]) -> list[list[object]]:
    return [list(column) for column in zip(*events, strict=True)]


# Kept and live events take their positions from one sequence and are ordered by transaction first.
# Only transactions before the oldest open one are read: nothing can still be inserted before them.
# `bounded` ends a page by bytes, at one event or more; `horizon` is the last transaction that was
# looked at, which a page without events has, too.
_READ = """
    WITH page AS (
        SELECT * FROM (
            (SELECT *, true AS kept FROM structure_events
             WHERE (xact, position) > ($1::bigint::text::xid8, $2)
               AND xact < pg_snapshot_xmin(pg_current_snapshot()) {bounds}
             ORDER BY xact, position LIMIT $3)
            UNION ALL
            (SELECT *, false FROM live_events
             WHERE (xact, position) > ($1::bigint::text::xid8, $2)
               AND xact < pg_snapshot_xmin(pg_current_snapshot()) {bounds}
             ORDER BY xact, position LIMIT $3)
        ) both_kinds
        ORDER BY xact, position LIMIT $3
    ),
    bounded AS (
        SELECT *, count(*) OVER () AS found,
               sum(octet_length(payload::text)) OVER earlier AS bytes_before
        FROM page
        WINDOW earlier AS (
            ORDER BY xact, position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    )
    SELECT h.xact AS horizon, found, e.xact::text::bigint AS xact, position, id, event_type,
           organization_id, workspace_id, payload::text AS payload, created_at, kept
    FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1 AS xact) h
    LEFT JOIN bounded e ON coalesce(bytes_before, 0) < $4
    ORDER BY e.xact, position
"""


async def read(
    pool: Pool, after: Position, scope: Scope, *, limit: int, max_bytes: int
) -> EventPage:
    """Events after a place, oldest first.

    Args:
        limit: most events of the page.
        max_bytes: the page ends with the event whose payload exceeds these bytes in sum.
    """
    bounds, values = _bounds(scope, 5)
    rows = await pool.fetch(_READ.format(bounds=bounds), *after, limit, max_bytes, *values)
    events = [_stored(row) for row in rows if row["id"] is not None]
    if events and (len(events) < rows[0]["found"] or len(events) == limit):
        return EventPage(events, events[-1].place, more=True)
    return EventPage(events, max(after, Position.behind(rows[0]["horizon"])), more=False)


def _stored(row: asyncpg.Record) -> StoredEvent:
    return StoredEvent(
        place=Position(row["xact"], row["position"]),
        id=row["id"],
        type=row["event_type"],
        organization_id=row["organization_id"],
        workspace_id=row["workspace_id"],
        payload=row["payload"],
        created_at=row["created_at"],
        kept=row["kept"],
    )


def _bounds(scope: Scope, first: int) -> tuple[str, list[object]]:
    """`Scope.covers` in SQL, with its parameters from `$first` on."""
    clauses = ""
    values: list[object] = []
    for column, value in (
        ("organization_id", scope.organization_id),
        ("workspace_id", scope.workspace_id),
    ):
        if value is not None:
            clauses += f" AND {column} = ${first + len(values)}"
            values.append(value)
    if scope.types:
        clauses += f" AND event_type = ANY(${first + len(values)})"
        values.append(list(scope.types))
    return clauses, values


async def now(pool: Pool) -> Position:
    """The place before which everything has happened."""
    xact: int = await pool.fetchval(
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1"
    )
    return Position.behind(xact)


# Events behind the bytes are left out before their payloads are sent; the first one always stays.
_NEWEST = """
    WITH page AS (
        SELECT * FROM structure_events
        WHERE (xact, position) < ($1::bigint::text::xid8, $2) {bounds}
        ORDER BY xact DESC, position DESC LIMIT $3
    ),
    bounded AS (
        SELECT *, count(*) OVER () AS found, row_number() OVER through AS number,
               sum(octet_length(payload::text)) OVER through AS bytes_so_far
        FROM page
        WINDOW through AS (ORDER BY xact DESC, position DESC ROWS UNBOUNDED PRECEDING)
    )
    SELECT xact::text::bigint AS xact, position, id, event_type, organization_id, workspace_id,
           payload::text AS payload, created_at, true AS kept, found
    FROM bounded WHERE number = 1 OR bytes_so_far <= $4
    ORDER BY bounded.xact DESC, position DESC
"""


async def newest(
    pool: Pool,
    scope: Scope,
    *,
    before: Position | None,
    limit: int,
    max_bytes: int = MAX_PAGE_BYTES,
) -> Page[StoredEvent]:
    """Kept events behind a place, newest first, in a page of about `max_bytes`."""
    bounds, values = _bounds(scope, 5)
    if scope.workspace_id is not None:
        # Not by the index of the organisation, whose other workspaces have most of its events.
        bounds = bounds.replace("organization_id = $5", "(organization_id = $5) IS TRUE")
    sql = _NEWEST.format(bounds=bounds)
    place = before or LAST_PLACE
    rows = await pool.fetch(sql, *place, limit + 1, max_bytes, *values)
    listed = [_stored(row) for row in rows[:limit]]
    return Page(listed, more=bool(rows) and rows[0]["found"] > len(listed))


# Looks at the oldest rows alone, so that its cost does not depend on how many are left.
_PRUNE = """
    WITH oldest AS (
        SELECT id, created_at FROM {table}
        ORDER BY xact, position LIMIT $1 FOR UPDATE SKIP LOCKED
    ),
    pruned AS (
        DELETE FROM {table} WHERE id IN (
            SELECT id FROM oldest WHERE created_at < now() - make_interval(secs => $2)
        ) RETURNING 1
    )
    SELECT count(*) FROM pruned
"""


async def prune(pool: Pool, *, live_minutes: float, kept_days: float) -> None:
    """Delete events of these ages and older. Any number of workers may do it at once."""
    for table, seconds in (
        ("live_events", live_minutes * 60.0),
        ("structure_events", kept_days * 86400.0),
    ):

        async def step(
            limit: int, sql: str = _PRUNE.format(table=table), age: float = seconds
        ) -> int:
            pruned: int = await pool.fetchval(sql, limit, age)
            return pruned

        await in_batches(f"{table} retention", step, batch=_PRUNE_BATCH)
