"""The SQL of fires: taking over those of dead workers, noting what became of each, history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db import rows
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.events.names import EventType
from molecule_grpc.schedules.store.due import LEASE_SECONDS, Claimed
from molecule_grpc.schedules.values import Run, State

_COLUMNS = ", ".join(Run._fields)


async def begin(conn: Connection, run_id: UUID, schedule_id: UUID) -> None:
    """Enter a fire that somebody asked for, under this worker's lease."""
    await conn.execute(
        """
        INSERT INTO schedule_runs (
            id, schedule_id, organization_id, workspace_id, trigger, scheduled_for, state,
            lease_until, attempts
        )
        SELECT $1, id, organization_id, workspace_id, 'manual', now(), 'claimed',
               now() + make_interval(secs => $3), 1
        FROM workspace_schedules WHERE id = $2
        """,
        run_id,
        schedule_id,
        LEASE_SECONDS,
    )


async def take_over(pool: Pool, limit: int) -> list[Claimed]:
    """Fires whose taker did not hand them over in time, under this worker's lease now."""
    found = await pool.fetch(
        """
        UPDATE schedule_runs r SET
            lease_until = now() + make_interval(secs => $1), attempts = r.attempts + 1
        FROM workspace_schedules s
        WHERE s.id = r.schedule_id AND r.id IN (
            SELECT id FROM schedule_runs WHERE state = 'claimed' AND lease_until < now()
            ORDER BY lease_until LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
        )
        RETURNING r.id, r.workspace_id, s.prompt,
                  extract(epoch FROM now() - r.scheduled_for)::float AS late, r.attempts
        """,
        LEASE_SECONDS,
        limit,
    )
    return [Claimed(*row) for row in found]


class HandedOver(NamedTuple):
    """What became of handing a fire over. The fields are the columns of the row on its way.

    Args:
        error: why nothing was handed over; empty when the ledger has the delegation.
    """

    id: UUID
    error: str


# Schedules are locked first, in the order of their ids: so is a schedule that is being deleted.
_HELD = """
    held AS (
        SELECT s.id FROM workspace_schedules s
        WHERE s.id IN (SELECT r.schedule_id FROM schedule_runs r JOIN input i USING (id))
        ORDER BY s.id FOR NO KEY UPDATE
    )
"""

_HAND_OVER = f"""
    WITH input AS (SELECT * FROM {rows.unnest(HandedOver, 3)}), {_HELD},
    changed AS (
        UPDATE schedule_runs r SET
            state = CASE i.error WHEN '' THEN 'running' ELSE 'skipped' END, error = i.error,
            lease_until = NULL, fired_at = CASE i.error WHEN '' THEN now() END,
            ended_at = CASE WHEN i.error <> '' THEN now() END
        FROM input i
        WHERE r.id = i.id AND r.state = 'claimed' AND r.schedule_id IN (SELECT id FROM held)
        RETURNING r.id, r.schedule_id, r.organization_id, r.workspace_id, r.scheduled_for, r.error
    ),
    newest AS (
        SELECT DISTINCT ON (schedule_id) schedule_id, error,
               count(*) FILTER (WHERE error = '') OVER (PARTITION BY schedule_id) AS fired
        FROM changed ORDER BY schedule_id, scheduled_for DESC
    ),
    noted AS (
        UPDATE workspace_schedules s SET
            run_count = s.run_count + n.fired,
            last_run_at = CASE WHEN n.fired > 0 THEN now() ELSE s.last_run_at END,
            last_status = CASE n.error WHEN '' THEN 'running' ELSE 'skipped' END,
            last_error = n.error
        FROM newest n WHERE s.id = n.schedule_id
        RETURNING s.id, s.name
    ),
    happened AS (
        INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
        SELECT gen_random_uuid(), CASE c.error WHEN '' THEN $1::text ELSE $2::text END,
               c.organization_id, c.workspace_id,
               jsonb_strip_nulls(jsonb_build_object(
                   'schedule_id', c.schedule_id, 'schedule_name', n.name,
                   'delegation_id', CASE c.error WHEN '' THEN c.id END,
                   'reason', nullif(c.error, '')))
        FROM changed c JOIN noted n ON n.id = c.schedule_id
    )
    SELECT id, error FROM changed
"""


async def handed_over(pool: Pool, done: Sequence[HandedOver]) -> int:
    """Note fires that the ledger has, or has refused; how many this worker noted."""
    found = await pool.fetch(
        _HAND_OVER, EventType.CRON_EXECUTED, EventType.CRON_SKIPPED, *rows.columns(done)
    )
    return len(found)


class Outcome(NamedTuple):
    """How a fire's delegation ended. The fields are the columns of the row on its way."""

    id: UUID
    state: str
    error: str
    empty: bool
    ended_at: datetime


_SETTLE = f"""
    WITH input AS (SELECT * FROM {rows.unnest(Outcome, 2)}), {_HELD},
    changed AS (
        UPDATE schedule_runs r SET state = i.state, error = i.error, ended_at = i.ended_at
        FROM input i
        WHERE r.id = i.id AND r.state = 'running' AND r.schedule_id IN (SELECT id FROM held)
        RETURNING r.schedule_id, r.scheduled_for, r.fired_at, r.state, r.error, i.empty
    ),
    newest AS (
        SELECT DISTINCT ON (schedule_id) schedule_id, fired_at, state, error, empty,
               bool_and(empty) OVER (PARTITION BY schedule_id) AS all_empty,
               count(*) OVER (PARTITION BY schedule_id) AS number
        FROM changed ORDER BY schedule_id, scheduled_for DESC
    ),
    counted AS (
        SELECT s.id, n.*, CASE WHEN n.all_empty THEN s.consecutive_empty_runs + n.number
                               ELSE n.empty::int END AS empties,
               -- A later fire has the last word.
               s.last_run_at <= n.fired_at AS tells
        FROM newest n JOIN workspace_schedules s ON s.id = n.schedule_id
    ),
    noted AS (
        UPDATE workspace_schedules s SET
            consecutive_empty_runs = c.empties,
            last_status = CASE WHEN NOT c.tells THEN s.last_status
                               WHEN c.empties >= $1 THEN 'stale' ELSE c.state END,
            last_error = CASE WHEN c.tells THEN c.error ELSE s.last_error END
        FROM counted c WHERE s.id = c.id
    )
    SELECT state FROM changed
"""


async def settle(pool: Pool, outcomes: Sequence[Outcome], *, stale_after: int) -> list[str]:
    """Note how fires ended; the states of those that this worker noted.

    Args:
        stale_after: so many empty results in a row make a schedule `stale`.
    """
    found = await pool.fetch(_SETTLE, stale_after, *rows.columns(outcomes))
    return [row["state"] for row in found]


class Running(NamedTuple):
    """A fire whose delegation had not ended when it was last looked at.

    Args:
        old: whether its delegation has ended by any means, and is not on record any more.
    """

    id: UUID
    old: bool


async def running(pool: Pool, *, behind: UUID, limit: int, old_days: int) -> list[Running]:
    """Fires whose delegations may have ended, by id, behind one of them."""
    found = await pool.fetch(
        """
        SELECT id, fired_at < now() - make_interval(days => $3) AS old
        FROM schedule_runs WHERE state = 'running' AND id > $1 ORDER BY id LIMIT $2
        """,
        behind,
        limit,
        old_days,
    )
    return [Running(*row) for row in found]


async def history(
    pool: Pool, schedule_id: UUID, *, before: tuple[datetime, UUID] | None, limit: int
) -> list[Run]:
    """Fires of a schedule, newest first, from behind a place."""
    found = await pool.fetch(
        f"""
        SELECT {_COLUMNS} FROM schedule_runs
        WHERE schedule_id = $1
          AND ($2::timestamptz IS NULL OR (scheduled_for, id) < ($2, $3::uuid))
        ORDER BY scheduled_for DESC, id DESC LIMIT $4
        """,
        schedule_id,
        *(before or (None, None)),
        limit,
    )
    return [Run(*row)._replace(state=State(row["state"])) for row in found]


async def drop_old(pool: Pool, days: int, limit: int) -> int:
    """Delete fires that are over and older than that, at most so many."""
    found = await pool.fetch(
        """
        DELETE FROM schedule_runs WHERE id IN (
            SELECT id FROM schedule_runs
            WHERE scheduled_for < now() - make_interval(days => $1)
              AND state NOT IN ('claimed', 'running')
            ORDER BY scheduled_for LIMIT $2 FOR UPDATE SKIP LOCKED
        ) RETURNING true
        """,
        days,
        limit,
    )
    return len(found)


async def drop_many(pool: Pool, most: int, limit: int) -> int:
    """Delete the oldest fires of schedules that have more than `most`; at most so many.

    Only schedules that fired within the last hour are looked at: the others did not grow.
    """
    found = await pool.fetch(
        """
        DELETE FROM schedule_runs WHERE id IN (
            SELECT x.id
            FROM (
                SELECT s.id FROM workspace_schedules s
                WHERE s.last_run_at > now() - interval '1 hour'
            ) s
            CROSS JOIN LATERAL (
                SELECT r.id, r.state FROM schedule_runs r WHERE r.schedule_id = s.id
                ORDER BY r.scheduled_for DESC OFFSET $1
            ) x
            WHERE x.state NOT IN ('claimed', 'running') LIMIT $2
        ) RETURNING true
        """,
        most,
        limit,
    )
    return len(found)
