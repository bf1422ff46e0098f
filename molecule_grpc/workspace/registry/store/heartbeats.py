"""The SQL of signs of life: heartbeats and open streams, many workspaces in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast
from uuid import UUID

from molecule_grpc.auth.tokens import mint
from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import Heartbeat, HeartbeatResult
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.workspace import rules
from molecule_grpc.workspace.refusals import missing, removed
from molecule_grpc.workspace.status import EVENTS, SEEN, UNWELL, WELL_AGAIN, Status
from molecule_grpc.workspace.store.moves import (
    KEEP_EVENTS,
    event_column,
    may,
    new_status,
)

# What was not reported stays as it is, and the status follows from what was reported. A failed
# workspace keeps its reason: only a registration ends the failure. A column may be empty, which
# leaves NULLs: see `_sparse`. All columns of `moved` are
# answered, also the event: leaving it out makes Postgres copy every row, 2 % of the statement.
HEARTBEAT = f"""
    WITH moved AS (
        UPDATE workspaces w SET
            last_heartbeat_at = now(),
            last_error_rate = coalesce(b.error_rate, w.last_error_rate),
            last_sample_error = CASE WHEN w.status = '{Status.FAILED}' THEN w.last_sample_error
                                     ELSE coalesce(b.sample_error, w.last_sample_error) END,
            active_tasks = coalesce(b.active_tasks, w.active_tasks),
            uptime_seconds = coalesce(b.uptime_seconds, w.uptime_seconds),
            current_task = coalesce(b.current_task, w.current_task),
            monthly_spend = coalesce(b.monthly_spend, w.monthly_spend),
            spend_reported_at = CASE WHEN b.monthly_spend IS NULL THEN w.spend_reported_at
                                     ELSE now() END,
            idle_timeout_seconds = coalesce(b.idle_timeout_seconds, w.idle_timeout_seconds),
            -- A task that runs, or has run until now, is activity; a heartbeat is none.
            last_active_at = CASE WHEN w.active_tasks > 0 OR b.active_tasks > 0 THEN now()
                                  ELSE w.last_active_at END,
            status = CASE
                WHEN {may(UNWELL)} AND (b.wedged OR NOT coalesce(b.self_managed, false)
                    AND coalesce(b.error_rate, w.last_error_rate) >= $12) THEN '{UNWELL.target}'
                WHEN {may(WELL_AGAIN)} AND coalesce(b.well, true)
                    AND NOT coalesce(b.self_managed, false)
                    AND coalesce(b.error_rate, w.last_error_rate) < $13 THEN '{WELL_AGAIN.target}'
                WHEN {may(SEEN)} THEN '{SEEN.target}'
                ELSE w.status END
        FROM unnest($1::uuid[], $2::float8[], $3::text[], $4::int[], $5::int[], $6::text[],
                    $7::bigint[], $8::bool[], $9::bool[], $10::bool[], $11::int[])
                 WITH ORDINALITY
            AS b (id, error_rate, sample_error, active_tasks, uptime_seconds, current_task,
                  monthly_spend, wedged, well, self_managed, idle_timeout_seconds, ord)
        WHERE w.id = b.id AND w.status <> 'removed'
        RETURNING {event_column(new_status({UNWELL.target: "$14", SEEN.target: "$15"}))},
                  b.ord, old.status AS before, new.status AS after,
                  (old.current_task, old.active_tasks) <> (new.current_task, new.active_tasks)
                      AS tasks_changed,
                  coalesce(new.platform_inbound_secret, '') AS inbound_secret
    ), kept AS ({KEEP_EVENTS})
    SELECT * FROM moved
"""

# Values of a heartbeat with a workspace's id alone. Postgres gets a column of defaults as `[]`.
_DEFAULTS = tuple(Heartbeat._field_defaults.get(name) for name in Heartbeat._fields[:-1])
EVENT_NAMES = (EVENTS[UNWELL.target], EVENTS[SEEN.target])

_HEAL = """
    UPDATE workspaces w
    SET platform_inbound_secret = coalesce(nullif(w.platform_inbound_secret, ''), s.secret)
    FROM unnest($1::uuid[], $2::text[]) AS s (id, secret)
    WHERE w.id = s.id AND w.status <> 'removed'
    RETURNING w.id, w.platform_inbound_secret
"""

_TOUCH = f"""
    WITH moved AS (
        UPDATE workspaces w SET
            last_heartbeat_at = now(),
            status = CASE WHEN {may(SEEN)} THEN '{SEEN.target}' ELSE w.status END
        FROM unnest($1::uuid[]) AS present (id)
        WHERE w.id = present.id AND w.status <> 'removed'
        RETURNING {event_column(new_status({SEEN.target: "$2"}))}
    ), kept AS ({KEEP_EVENTS})
    SELECT EXISTS (SELECT FROM moved WHERE event IS NOT NULL)
"""


async def beat(conn: Connection, beats: Sequence[Heartbeat]) -> list[HeartbeatResult | NotFound]:
    """Apply heartbeats of different workspaces, in id order like all who change many rows."""
    order = sorted(range(len(beats)), key=lambda n: beats[n].workspace_id.int)
    *columns, _ = zip(*(beats[n] for n in order), strict=True)
    rows = await conn.fetch(
        HEARTBEAT, *_sparse(columns), rules.DEGRADED_FROM, rules.WELL_BELOW, *EVENT_NAMES
    )
    done: list[HeartbeatResult | None] = [None] * len(beats)
    for _, workspace_id, ordinal, *values in rows:
        done[order[ordinal - 1]] = HeartbeatResult(workspace_id, *values)
    if any(each and not each.inbound_secret for each in done):
        await _heal(conn, done)
    if len(rows) == len(beats):
        return cast("list[HeartbeatResult | NotFound]", done)
    return await _with_refusals(conn, beats, done)


def _sparse(columns: Sequence[tuple[object, ...]]) -> list[list[object]]:
    """The columns as arrays; an empty one where every heartbeat leaves the field at its default.

    The driver takes 0.3 us for each value, and unnest fills an array that is too short with NULLs.
    """
    return [
        [] if column[0] == default and column.count(default) == len(column) else list(column)
        for column, default in zip(columns, _DEFAULTS, strict=True)
    ]


async def touch(conn: Connection, workspace_ids: list[UUID]) -> bool:
    """Count workspaces as present: their agents hold a stream open. Whether a status moved."""
    moved: bool = await conn.fetchval(_TOUCH, sorted(workspace_ids), EVENTS[SEEN.target])
    return moved


async def _heal(conn: Connection, done: list[HeartbeatResult | None]) -> None:
    """Give an inbound secret to rows without one; of two workers that try, the first decides."""
    bare = sorted(each.id for each in done if each and not each.inbound_secret)
    rows = await conn.fetch(_HEAL, bare, [mint().text for _ in bare])
    secrets = {row["id"]: row["platform_inbound_secret"] for row in rows}
    for n, each in enumerate(done):
        if each and each.id in secrets:
            done[n] = each._replace(inbound_secret=secrets[each.id])


async def _with_refusals(
    conn: Connection, beats: Sequence[Heartbeat], done: Sequence[HeartbeatResult | None]
) -> list[HeartbeatResult | NotFound]:
    lost = [each.workspace_id for each, outcome in zip(beats, done, strict=True) if not outcome]
    rows = await conn.fetch("SELECT id FROM workspaces WHERE id = ANY($1)", lost)
    tombs = {row["id"] for row in rows}
    return [
        outcome or (removed() if each.workspace_id in tombs else missing())
        for each, outcome in zip(beats, done, strict=True)
    ]
