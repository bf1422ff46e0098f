"""The SQL of signs of life: heartbeats and open streams, many workspaces in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast
from uuid import UUID

from molecule_grpc.auth.tokens import mint
from molecule_grpc.db.pool import Connection
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.workspace import rules
from molecule_grpc.workspace.refusals import missing, removed
from molecule_grpc.workspace.status import SEEN, UNWELL, WELL_AGAIN, Status
from molecule_grpc.workspace.store.moves import (
    EVENT_NAMES,
    KEEP_EVENTS,
    event_columns,
    may,
    status_event,
)

# One pass over the rows: what was not reported stays, and the status follows from what was. A
# failed workspace keeps its reason, and only a registration ends the failure.
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
            idle_timeout_seconds = coalesce(b.idle_timeout_seconds, w.idle_timeout_seconds),
            status = CASE
                WHEN {may(UNWELL)} AND (b.wedged OR NOT b.self_managed
                    AND coalesce(b.error_rate, w.last_error_rate) >= $12) THEN '{UNWELL.target}'
                WHEN {may(WELL_AGAIN)} AND b.well AND NOT b.self_managed
                    AND coalesce(b.error_rate, w.last_error_rate) < $13 THEN '{WELL_AGAIN.target}'
                WHEN {may(SEEN)} THEN '{SEEN.target}'
                ELSE w.status END
        FROM unnest($1::uuid[], $2::float8[], $3::text[], $4::int[], $5::int[], $6::text[],
                    $7::bigint[], $8::bool[], $9::bool[], $10::bool[], $11::int[])
                 WITH ORDINALITY
            AS b (id, error_rate, sample_error, active_tasks, uptime_seconds, current_task,
                  monthly_spend, wedged, well, self_managed, idle_timeout_seconds, ord)
        WHERE w.id = b.id AND w.status <> 'removed'
        RETURNING b.ord, old.status AS before, new.status AS after,
                  (old.current_task, old.active_tasks) <> (new.current_task, new.active_tasks)
                      AS tasks_changed,
                  coalesce(new.platform_inbound_secret, '') AS inbound_secret,
                  {event_columns(status_event("$14"))}
    ), kept AS ({KEEP_EVENTS})
    SELECT ord, workspace_id, before, after, tasks_changed, inbound_secret FROM moved
"""

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
        RETURNING {event_columns(status_event("$2"))}
    ), kept AS ({KEEP_EVENTS})
    SELECT EXISTS (SELECT FROM moved WHERE event_type IS NOT NULL)
"""


class Heartbeat(NamedTuple):
    """One heartbeat. None means that nothing was reported.

    The order of the fields is the order of the columns.

    Args:
        monthly_spend: US cents.
        wedged: the agent's engine hangs although its heartbeats flow.
        well: the engine is well.
        self_managed: the runtime judges its own health.
        idle_timeout_seconds: silence after which a call to the agent is given up; 0 for the
            platform's default.
    """

    workspace_id: UUID
    error_rate: float | None = None
    sample_error: str | None = None
    active_tasks: int | None = None
    uptime_seconds: int | None = None
    current_task: str | None = None
    monthly_spend: int | None = None
    wedged: bool = False
    well: bool = True
    self_managed: bool = False
    idle_timeout_seconds: int | None = None


class HeartbeatResult(NamedTuple):
    """What a heartbeat did: the status before and after, and what to answer."""

    id: UUID
    before: str
    after: str
    tasks_changed: bool
    inbound_secret: str


async def beat(conn: Connection, beats: Sequence[Heartbeat]) -> list[HeartbeatResult | NotFound]:
    """Apply heartbeats of different workspaces, in id order like all who change many rows."""
    order = sorted(range(len(beats)), key=lambda n: beats[n].workspace_id.int)
    columns = zip(*(beats[n] for n in order), strict=True)
    rows = await conn.fetch(
        HEARTBEAT, *map(list, columns), rules.DEGRADED_FROM, rules.WELL_BELOW, EVENT_NAMES
    )
    done: list[HeartbeatResult | None] = [None] * len(beats)
    for ordinal, *values in rows:
        done[order[ordinal - 1]] = HeartbeatResult(*values)
    if any(each and not each.inbound_secret for each in done):
        await _heal(conn, done)
    if len(rows) == len(beats):
        return cast("list[HeartbeatResult | NotFound]", done)
    return await _with_refusals(conn, beats, done)


async def touch(conn: Connection, workspace_ids: list[UUID]) -> bool:
    """Count workspaces as present: their agents hold a stream open. Whether a status moved."""
    moved: bool = await conn.fetchval(_TOUCH, sorted(workspace_ids), EVENT_NAMES)
    return moved


async def _heal(conn: Connection, done: list[HeartbeatResult | None]) -> None:
    """Rows that never had an inbound secret get one, which whoever is faster decides."""
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
