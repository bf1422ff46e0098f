"""The SQL that takes schedules whose time has come. Any number of workers may run it at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db import rows
from molecule_grpc.db.pool import Pool
from molecule_grpc.events.names import EventType

# Another worker hands a fire over when its taker did not within so many seconds.
LEASE_SECONDS = 60.0
# The agent's own count of its tasks is believed for so long after its heartbeat.
_FRESH_SECONDS = 90


class DueRow(NamedTuple):
    """A schedule whose time may have come.

    Args:
        now: by the clock of the database.
        last_fire: its newest fire, if that is not over: the id of its delegation.
        claimed: whether that fire is not in the ledger yet.
    """

    id: UUID
    cron_expr: str
    timezone: str
    next_run_at: datetime
    look_at: datetime
    waiting_since: datetime | None
    paused: bool
    active: int
    room: int
    last_fire: UUID | None
    claimed: bool
    now: datetime


_DUE = f"""
    SELECT s.id, s.cron_expr, s.timezone, s.next_run_at, s.look_at, s.waiting_since,
           w.status = 'paused' AS paused,
           CASE WHEN w.last_heartbeat_at > now() - interval '{_FRESH_SECONDS} seconds'
                THEN w.active_tasks ELSE 0 END AS active,
           w.max_concurrent_tasks AS room, r.id AS last_fire,
           coalesce(r.state = 'claimed', false) AS claimed, now() AS now
    FROM workspace_schedules s
    JOIN workspaces w ON w.id = s.workspace_id
    LEFT JOIN LATERAL (
        SELECT x.id, x.state FROM schedule_runs x
        WHERE x.schedule_id = s.id AND x.state <> 'skipped'
        ORDER BY x.scheduled_for DESC LIMIT 1
    ) r ON r.state IN ('claimed', 'running')
    WHERE s.look_at <= now() AND w.status <> 'removed'
    ORDER BY s.look_at, s.id LIMIT $1
"""


async def due(pool: Pool, limit: int) -> list[DueRow]:
    """Schedules to look at now, the oldest first."""
    return [DueRow(*row) for row in await pool.fetch(_DUE, limit)]


async def seconds_until_next(pool: Pool) -> float | None:
    """Seconds until a schedule wants to be looked at; None when there is none."""
    found: float | None = await pool.fetchval(
        """
        SELECT extract(epoch FROM look_at - now())::float FROM workspace_schedules
        WHERE look_at IS NOT NULL ORDER BY look_at LIMIT 1
        """
    )
    return found


class Verdict(NamedTuple):
    """What is done with a due schedule. The fields are the columns of the row on its way.

    `due` and `looked_at` are what the decision saw of the row: nothing happens when the row has
    moved on since.
    """

    id: UUID
    due: datetime
    looked_at: datetime
    step: str
    next_run_at: datetime
    look_at: datetime
    why: str
    run_id: UUID


class Claimed(NamedTuple):
    """A fire that this worker is to hand over.

    Args:
        late: seconds since its time had come.
    """

    run_id: UUID
    workspace_id: UUID
    prompt: str
    late: float
    attempts: int = 1


# The row of the fire commits with the schedule's next time: whoever dies in between leaves neither
# or both. Rows that another worker has locked are its own to decide about.
_CLAIM = f"""
    WITH input AS (SELECT * FROM {rows.unnest(Verdict, 3)}),
    held AS (
        SELECT s.id FROM workspace_schedules s JOIN input i USING (id)
        WHERE s.next_run_at = i.due AND s.look_at = i.looked_at
        ORDER BY s.id FOR NO KEY UPDATE OF s SKIP LOCKED
    ),
    moved AS (
        UPDATE workspace_schedules s SET
            next_run_at = i.next_run_at, look_at = i.look_at,
            waiting_since = CASE WHEN i.step = 'wait' THEN coalesce(s.waiting_since, now()) END,
            last_status = CASE WHEN i.step = 'skip' THEN 'skipped'
                               WHEN i.why <> '' THEN 'error' ELSE s.last_status END,
            last_error = CASE WHEN i.why <> '' THEN i.why ELSE s.last_error END
        FROM input i
        WHERE s.id = i.id AND s.id IN (SELECT id FROM held)
        RETURNING s.id, s.organization_id, s.workspace_id, s.name, s.prompt, i.step, i.due, i.why,
                  i.run_id
    ),
    -- One more skip for the same reason is no news.
    again AS (
        UPDATE schedule_runs r SET times = r.times + 1
        FROM moved m
        WHERE m.step = 'skip' AND r.state = 'skipped' AND r.error = m.why AND r.id = (
            SELECT x.id FROM schedule_runs x WHERE x.schedule_id = m.id
            ORDER BY x.scheduled_for DESC LIMIT 1
        )
        RETURNING r.schedule_id
    ),
    entered AS (
        INSERT INTO schedule_runs (
            id, schedule_id, organization_id, workspace_id, trigger, scheduled_for, state, error,
            lease_until, attempts, ended_at
        )
        SELECT run_id, id, organization_id, workspace_id, 'cron', due,
               CASE step WHEN 'fire' THEN 'claimed' ELSE 'skipped' END, why,
               CASE step WHEN 'fire' THEN now() + make_interval(secs => $2) END, 1,
               CASE step WHEN 'skip' THEN now() END
        FROM moved WHERE step <> 'wait' AND id NOT IN (SELECT schedule_id FROM again)
        ON CONFLICT (schedule_id, scheduled_for, trigger) DO NOTHING
        RETURNING id
    ),
    happened AS (
        INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
        SELECT gen_random_uuid(), $1::text, organization_id, workspace_id,
               jsonb_build_object('schedule_id', id, 'schedule_name', name, 'reason', why)
        FROM moved WHERE step = 'skip' AND run_id IN (SELECT id FROM entered)
    )
    SELECT m.step, m.run_id, m.workspace_id, m.prompt,
           extract(epoch FROM now() - m.due)::float AS late
    FROM moved m LEFT JOIN entered e ON e.id = m.run_id
    WHERE m.step <> 'fire' OR e.id IS NOT NULL
"""


class Taken(NamedTuple):
    """What became of verdicts: the fires to hand over, and how many times were skipped."""

    fires: list[Claimed]
    skipped: int


async def claim(pool: Pool, verdicts: Sequence[Verdict]) -> Taken:
    """Do what was decided, where the schedule is as the decision saw it."""
    found = await pool.fetch(_CLAIM, EventType.CRON_SKIPPED, LEASE_SECONDS, *rows.columns(verdicts))
    fires = [
        Claimed(row["run_id"], row["workspace_id"], row["prompt"], row["late"])
        for row in found
        if row["step"] == "fire"
    ]
    return Taken(fires, sum(row["step"] == "skip" for row in found))
