"""The SQL of events: writing them, and reading them as a feed that skips nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.events.names import EventType
from molecule_grpc.kernel.ids import new_id

# How long an event stays that nobody will resume after.
LIVE_MINUTES = 10
# How long a kept one can be resumed after.
KEPT_DAYS = 30
# What readers of the feed watch for news.
CHANNEL_ALL = UUID(int=0)
# Where workers tell one another that the feed has readers.
CHANNEL_AUDIENCE = UUID(int=1)


class Event(NamedTuple):
    """One thing that happened. `payload` is JSON text."""

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


class Position(NamedTuple):
    """A place in the feed: everything up to it is known."""

    xact: int
    position: int


class Scope(NamedTuple):
    """What a reader may see. None leaves a bound out."""

    organization_id: UUID | None
    workspace_id: UUID | None
    types: tuple[str, ...]


# Kept and live events take their positions from one sequence and are ordered by transaction first.
# Only transactions before the oldest open one are read: nothing can still be inserted before them.
_READ = """
    SELECT xact::text::bigint AS xact, position, id, event_type, organization_id, workspace_id,
           payload::text AS payload, created_at, kept
    FROM (
        (SELECT *, true AS kept FROM structure_events
         WHERE (xact, position) > ($1::bigint::text::xid8, $2)
           AND xact < pg_snapshot_xmin(pg_current_snapshot()) {bounds}
         ORDER BY xact, position LIMIT $3)
        UNION ALL
        (SELECT *, false FROM live_events
         WHERE (xact, position) > ($1::bigint::text::xid8, $2)
           AND xact < pg_snapshot_xmin(pg_current_snapshot()) {bounds}
         ORDER BY xact, position LIMIT $3)
    ) e
    ORDER BY xact, position LIMIT $3
"""


async def read(pool: Pool, after: Position, scope: Scope, *, limit: int) -> list[asyncpg.Record]:
    """Events after a position, oldest first."""
    bounds, values = _bounds(scope, 4)
    return await pool.fetch(_READ.format(bounds=bounds), *after, limit, *values)


def _bounds(scope: Scope, first: int) -> tuple[str, list[object]]:
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
    """The position before which everything has happened."""
    xact: int = await pool.fetchval(
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1"
    )
    return Position(xact, 2**62)


async def newest(pool: Pool, scope: Scope, *, limit: int) -> list[asyncpg.Record]:
    """Kept events, newest first."""
    bounds, values = _bounds(scope, 2)
    return await pool.fetch(
        f"""
        SELECT id, event_type, workspace_id, payload::text AS payload, created_at
        FROM structure_events WHERE true {bounds}
        ORDER BY created_at DESC, position DESC LIMIT $1
        """,
        limit,
        *values,
    )


async def prune(pool: Pool) -> None:
    """Let old events go."""
    await pool.execute(
        "DELETE FROM live_events WHERE created_at < now() - make_interval(mins => $1)",
        LIVE_MINUTES,
    )
    await pool.execute(
        "DELETE FROM structure_events WHERE created_at < now() - make_interval(days => $1)",
        KEPT_DAYS,
    )
