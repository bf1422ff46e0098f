"""Delegations that nobody will finish, on a real database."""

from __future__ import annotations

import asyncio

from prometheus_client import REGISTRY

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.ledger.store import views as ledger_views
from molecule_grpc.delegation.ledger.sweeper import Sweeper
from molecule_grpc.settings.settings import Settings
from tests.integration.agents import Slice, hire, slice_of

STUCK_AFTER = 600.0


def sweeper_of(one: Slice, *, past_grace: bool = True) -> Sweeper:
    """A sweeper, whose boot grace is over unless said otherwise."""
    sweeper = Sweeper(one.pool, one.writes, stuck_after=STUCK_AFTER)
    if past_grace:
        sweeper._grace_until = 0.0
    return sweeper


async def aged(pool: Pool, name: str, *, deadline: str = "1 hour", beat: str | None = None) -> None:
    """Put a delegation's deadline and last beat so far from now."""
    await pool.execute(
        """UPDATE delegations SET deadline = now() + $2::text::interval,
                                  last_heartbeat = now() + $3::text::interval
           WHERE delegation_id = $1""",
        name,
        deadline,
        beat,
    )


def counted(outcome: str) -> float:
    """How often the sweeper met this outcome."""
    value = REGISTRY.get_sample_value("molecule_delegation_swept_total", {"outcome": outcome})
    assert value is not None
    return value


async def test_the_deadline_comes_before_staleness(database_url: str, pool: Pool) -> None:
    """D17: overdue fails, silent is stuck, both is failed, no beat is spared, healthy is spared."""
    async with slice_of(database_url, pool) as one:
        caller, callee = await hire(pool, 2)
        names = {
            name: await one.delegate(caller, callee)
            for name in ("overdue", "silent", "both", "unbeaten", "healthy")
        }
        await aged(pool, names["overdue"], deadline="-1 second")
        await aged(pool, names["silent"], beat="-11 minutes")
        await aged(pool, names["both"], deadline="-1 second", beat="-11 minutes")
        await aged(pool, names["healthy"], beat="-1 minute")
        assert await sweeper_of(one).sweep() == 3
        rows = {name: await one.row(found) for name, found in names.items()}
        assert {name: row["status"] for name, row in rows.items()} == {
            "overdue": "failed",
            "silent": "stuck",
            "both": "failed",
            "unbeaten": "queued",
            "healthy": "queued",
        }
        assert rows["overdue"]["error_detail"] == "deadline exceeded by sweeper"
        assert rows["overdue"]["failure_reason"] == "deadline"
        assert rows["silent"]["error_detail"].startswith("no heartbeat for 0:10:00")


async def test_every_swept_delegation_is_told_to_its_caller_once(
    database_url: str, pool: Pool
) -> None:
    """D14: several workers sweep at once, and each end is one item."""
    async with (
        slice_of(database_url, pool) as one,
        slice_of(database_url, pool) as other,
    ):
        caller, callee = await hire(pool, 2)
        names = [await one.delegate(caller, callee) for _ in range(20)]
        for name in names:
            await aged(pool, name, deadline="-1 second")
        swept = await asyncio.gather(sweeper_of(one).sweep(), sweeper_of(other).sweep())
        assert sum(swept) == len(names)
        ends = await one.items(caller, "delegate_result")
        assert sorted(end["delegation_id"] for end in ends) == sorted(names)
        assert {end["activity_status"] for end in ends} == {"error"}


async def test_a_completion_that_wins_the_race_stays(database_url: str, pool: Pool) -> None:
    """D17: the text survives, and the lost race is counted."""
    async with slice_of(database_url, pool) as one:
        caller, callee = await hire(pool, 2)
        name = await one.delegate(caller, callee)
        await aged(pool, name, deadline="-1 second")
        sweeper = sweeper_of(one)
        [lapsed] = await _lapsed(pool)
        await one.update(callee, name, "completed", "done after all")
        before = counted("race")
        assert not await sweeper._end(lapsed)
        assert counted("race") == before + 1
        assert (await one.row(name))["result"] == "done after all"


async def test_a_beat_that_comes_in_time_saves_it(database_url: str, pool: Pool) -> None:
    """The reason must still hold when the move is made."""
    async with slice_of(database_url, pool) as one:
        caller, callee = await hire(pool, 2)
        name = await one.delegate(caller, callee)
        await aged(pool, name, beat="-11 minutes")
        sweeper = sweeper_of(one)
        [lapsed] = await _lapsed(pool)
        await one.beat(callee, name)
        assert not await sweeper._end(lapsed)
        assert (await one.row(name))["status"] == "in_progress"


async def test_after_a_start_silence_is_not_held_against_anybody(
    database_url: str, pool: Pool
) -> None:
    """Our own downtime makes every beat look old; deadlines count all the same."""
    async with slice_of(database_url, pool) as one:
        caller, callee = await hire(pool, 2)
        silent, overdue = [await one.delegate(caller, callee) for _ in range(2)]
        await aged(pool, silent, beat="-11 minutes")
        await aged(pool, overdue, deadline="-1 second")
        assert await sweeper_of(one, past_grace=False).sweep() == 1
        assert (await one.row(silent))["status"] == "queued"


async def test_an_empty_ledger_is_swept_without_harm(database_url: str, pool: Pool) -> None:
    """D17."""
    async with slice_of(database_url, pool) as one:
        assert await sweeper_of(one).sweep() == 0


async def test_late_work_after_stuck_still_reaches_the_caller(
    database_url: str, pool: Pool
) -> None:
    """A late completion changes nothing and delivers its text once, marked."""
    async with slice_of(database_url, pool) as one:
        caller, callee = await hire(pool, 2)
        name = await one.delegate(caller, callee)
        await aged(pool, name, beat="-11 minutes")
        await sweeper_of(one).sweep()
        for _ in range(2):
            answer = await one.update(callee, name, "completed", "better late")
            assert not answer.applied
        assert (await one.row(name))["status"] == "stuck"
        ends = await one.items(caller)
        assert [(end["late"], end["activity_status"]) for end in ends] == [
            (False, "error"),
            (True, "ok"),
        ]


def test_the_sweeper_runs_every_five_minutes_by_default() -> None:
    """D18: 300 s and 600 s, when the variables are unset or empty."""
    names = ("DELEGATION_SWEEPER_INTERVAL_S", "DELEGATION_STUCK_THRESHOLD_S")
    settings = Settings.from_env(dict.fromkeys(names, ""))
    assert (settings.delegation.sweep_interval, settings.delegation.stuck_after) == (300, 600)


async def _lapsed(pool: Pool) -> list[ledger_views.Lapsed]:
    sweep_time = await pool.fetchval("SELECT now() - interval '10 minutes'")
    return await ledger_views.lapsed(pool, beat_before=sweep_time, limit=10)
