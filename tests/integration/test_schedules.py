"""Schedules on a real database: each time fires once, whatever workers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from molecule_grpc.db.pool import Pool
from molecule_grpc.directory import TemplateSchedule
from molecule_grpc.kernel.errors import AlreadyExists, Exhausted, NotFound
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.schedules import rules
from molecule_grpc.schedules.outcomes import Outcomes
from molecule_grpc.schedules.scheduler import Scheduler
from molecule_grpc.schedules.schedules import Schedules
from molecule_grpc.schedules.store import due, runs
from molecule_grpc.schedules.store.due import Verdict
from molecule_grpc.schedules.templates import TemplateSchedules
from molecule_grpc.schedules.values import ScheduleChange, ScheduleText, State
from tests.integration.agents import ORGANIZATION, Slice, hire, slice_of

# Whose own time does not come while a test runs.
YEARLY = "0 0 1 1 *"
TEXT = ScheduleText("yearly", YEARLY, "UTC", "look around")


def nothing(*_: object) -> None:
    """Nobody waits."""


def schedules_of(slice_: Slice) -> Schedules:
    return Schedules(
        slice_.pool, slice_.ledger.fires, PageTokens(bytes(32)), slice_.core.quotas, nothing
    )


def scheduler_of(slice_: Slice) -> Scheduler:
    return Scheduler(slice_.pool, slice_.ledger.fires, nothing)


@pytest.fixture
async def other(database_url: str, pool: Pool) -> AsyncIterator[Slice]:
    """Another worker of the same installation."""
    async with slice_of(database_url, pool) as opened:
        yield opened


async def make_due(pool: Pool) -> None:
    """The time of every schedule has come."""
    await pool.execute(
        "UPDATE workspace_schedules SET next_run_at = now(), look_at = now() WHERE enabled"
    )


async def rows_of(pool: Pool) -> list[tuple[str, str, int]]:
    """State, error and number of every fire, oldest first."""
    found = await pool.fetch("SELECT state, error, times FROM schedule_runs ORDER BY id")
    return [tuple(row) for row in found]


async def tasks(pool: Pool) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM delegations")
    return count


async def events(pool: Pool, kind: str) -> int:
    count: int = await pool.fetchval(
        "SELECT count(*) FROM structure_events WHERE event_type = $1", kind
    )
    return count


async def schedule(slice_: Slice, workspace_id: UUID, **changes: Any) -> UUID:
    text = ScheduleText(**{**_fields(TEXT), **changes})
    return (await schedules_of(slice_).create(workspace_id, text)).id


def _fields(text: ScheduleText) -> dict[str, Any]:
    return {name: getattr(text, name) for name in text.__slots__}


async def test_forty_agents_fire_once_however_many_workers_look(
    pool: Pool, slice_: Slice, other: Slice
) -> None:
    """Three passes at once on two workers, minute by minute for forty agents at once."""
    agents = await hire(pool, 40)
    for agent in agents:
        await schedule(slice_, agent)
    for _ in range(2):
        await make_due(pool)
        await asyncio.gather(*(scheduler_of(one).step() for one in (slice_, other, slice_)))
        # Before the next minute each agent completes its task.
        for row in await pool.fetch("SELECT delegation_id, callee_id FROM delegations"):
            await slice_.update(row["callee_id"], row["delegation_id"], "completed", "done")
    assert await tasks(pool) == 80
    assert await rows_of(pool) == [("running", "", 1)] * 80
    assert await events(pool, "CRON_EXECUTED") == 80
    assert await pool.fetchval("SELECT bool_and(next_run_at > now()) FROM workspace_schedules")
    assert await pool.fetchval("SELECT array_agg(DISTINCT run_count) FROM workspace_schedules") == [
        2
    ]


async def _claim_all(pool: Pool) -> list[due.Claimed]:
    """Claim all due schedules, as a worker does before handing tasks over."""
    verdicts = [
        Verdict(row.id, row.next_run_at, row.look_at, "fire", row.now, row.now, "", new_id())
        for row in await due.due(pool, 100)
    ]
    return (await due.claim(pool, verdicts)).fires


async def _lapse(pool: Pool) -> None:
    await pool.execute("UPDATE schedule_runs SET lease_until = now() - interval '1 second'")


@pytest.mark.parametrize("handed_over", [False, True])
async def test_a_worker_that_dies_loses_nothing_and_doubles_nothing(
    pool: Pool, slice_: Slice, me: UUID, *, handed_over: bool
) -> None:
    """Killed after it has taken a fire, before or after the ledger had the delegation."""
    schedule_id = await schedule(slice_, me)
    await make_due(pool)
    [fire] = await _claim_all(pool)
    await pool.execute(
        "UPDATE workspace_schedules SET next_run_at = now() + interval '1 h', look_at = now() +"
        " interval '1 h'"
    )
    if handed_over:
        await slice_.ledger.fires.fire(fire.run_id, fire.workspace_id, fire.prompt)
    await scheduler_of(slice_).step()
    assert await rows_of(pool) == [("claimed", "", 1)]  # It may still be at work.
    await _lapse(pool)
    await asyncio.gather(*(scheduler_of(slice_).step() for _ in range(3)))
    assert await tasks(pool) == 1
    assert await rows_of(pool) == [("running", "", 1)]
    found = await schedules_of(slice_).history(me, schedule_id, limit=0, page_token="")
    assert [(each.id, each.trigger) for each in found.rows] == [(fire.run_id, "cron")]


async def test_one_fire_makes_up_for_a_downtime(pool: Pool, slice_: Slice, me: UUID) -> None:
    await schedule(slice_, me)
    await pool.execute(
        "UPDATE workspace_schedules SET next_run_at = now() - interval '3 years',"
        " look_at = now() - interval '3 years'"
    )
    for _ in range(3):
        await scheduler_of(slice_).step()
    assert await rows_of(pool) == [("running", "", 1)]


async def test_a_busy_agent_has_two_minutes(pool: Pool, slice_: Slice, me: UUID) -> None:
    """Then the time is skipped; the next skip for the same reason is no news."""
    await pool.execute(
        "UPDATE workspaces SET active_tasks = 1, last_heartbeat_at = now() WHERE id = $1", me
    )
    await schedule(slice_, me)
    for number in range(2):
        await make_due(pool)
        await scheduler_of(slice_).step()
        assert len(await rows_of(pool)) == min(number, 1)
        await pool.execute(
            "UPDATE workspace_schedules SET look_at = now(),"
            " waiting_since = now() - interval '2 minutes'"
        )
        await scheduler_of(slice_).step()
    assert await rows_of(pool) == [("skipped", rules.BUSY, 2)]
    assert await events(pool, "CRON_SKIPPED") == 1
    assert await tasks(pool) == 0
    # A heartbeat long ago says nothing.
    await pool.execute("UPDATE workspaces SET last_heartbeat_at = now() - interval '2 minutes'")
    await make_due(pool)
    await scheduler_of(slice_).step()
    assert await tasks(pool) == 1


async def test_what_an_agent_has_not_got_yet_is_enough(pool: Pool, slice_: Slice, me: UUID) -> None:
    """While the agent is away, one fire waits for it."""
    await pool.execute("UPDATE workspaces SET status = 'offline' WHERE id = $1", me)
    await schedule(slice_, me)
    for _ in range(3):
        await make_due(pool)
        await scheduler_of(slice_).step()
    assert await rows_of(pool) == [("running", "", 1), ("skipped", rules.UNDELIVERED, 2)]
    await pool.execute("UPDATE workspaces SET status = 'online' WHERE id = $1", me)
    await make_due(pool)
    await scheduler_of(slice_).step()
    assert await tasks(pool) == 2


async def test_a_paused_workspace_is_given_nothing_and_a_removed_one_is_not_looked_at(
    pool: Pool, slice_: Slice
) -> None:
    paused, removed = await hire(pool, 2)
    await schedule(slice_, paused)
    await schedule(slice_, removed)
    await pool.execute("UPDATE workspaces SET status = 'paused' WHERE id = $1", paused)
    await pool.execute("UPDATE workspaces SET status = 'removed' WHERE id = $1", removed)
    await make_due(pool)
    await scheduler_of(slice_).step()
    assert await rows_of(pool) == [("skipped", rules.PAUSED, 1)]
    async with pool.acquire() as conn, conn.transaction():
        await schedules_of(slice_).disable_all(conn, [removed])
    enabled = await pool.fetch("SELECT workspace_id FROM workspace_schedules WHERE enabled")
    assert [row["workspace_id"] for row in enabled] == [paused]


async def test_a_full_inbox_is_a_skip(pool: Pool, slice_: Slice, me: UUID) -> None:
    """A refusal of the ledger is told, and the schedule goes on."""
    schedule_id = await schedule(slice_, me)
    await pool.execute("DELETE FROM workspaces WHERE id <> $1", me)
    await make_due(pool)
    [fire] = await _claim_all(pool)
    await pool.execute("UPDATE workspaces SET status = 'removed'")
    await _lapse(pool)
    await pool.execute("UPDATE workspace_schedules SET look_at = now() + interval '1 h'")
    await scheduler_of(slice_).step()
    assert await rows_of(pool) == [("skipped", "workspace not found", 1)]
    assert fire.workspace_id == me
    assert (
        await pool.fetchval(
            "SELECT last_status FROM workspace_schedules WHERE id = $1", schedule_id
        )
        == "skipped"
    )


async def test_a_fire_comes_from_nobody_and_its_result_goes_to_the_history(
    pool: Pool, slice_: Slice, me: UUID
) -> None:
    """An agent never converses with itself: no sender, and no result in its inbox."""
    schedule_id = await schedule(slice_, me)
    schedules = schedules_of(slice_)
    fired = await schedules.run(me, schedule_id, deliver=True)
    [item] = await slice_.items(me)
    assert (item["method"], item["source_id"], item["record_source"]) == ("delegate", None, None)
    assert item["delegation_id"] == str(fired.delegation_id)
    await slice_.update(me, str(fired.delegation_id), "completed", "all quiet")
    await _settle(slice_)
    assert len(await slice_.items(me)) == 1
    [run] = (await schedules.history(me, schedule_id, limit=0, page_token="")).rows
    assert (run.trigger, run.state, run.id) == ("manual", State.OK, fired.delegation_id)
    [found] = (await schedules.list_of(me, limit=0, page_token="")).rows
    assert (found.run_count, found.last_status) == (1, "ok")


async def _settle(slice_: Slice) -> None:
    await Outcomes(slice_.pool, slice_.ledger.fires, retention_days=30).settle()


async def test_three_empty_results_make_a_schedule_stale(
    pool: Pool, slice_: Slice, me: UUID
) -> None:
    schedule_id = await schedule(slice_, me)
    seen = []
    for text in (" ", "", "", "found something", ""):
        fired = await schedules_of(slice_).run(me, schedule_id, deliver=True)
        await slice_.update(me, str(fired.delegation_id), "completed", text)
        await asyncio.gather(_settle(slice_), _settle(slice_))
        seen.append(await pool.fetchval("SELECT last_status FROM workspace_schedules"))
    assert seen == ["ok", "ok", "stale", "ok", "ok"]
    fired = await schedules_of(slice_).run(me, schedule_id, deliver=True)
    await slice_.update(me, str(fired.delegation_id), "failed", error="no luck")
    await _settle(slice_)
    last = await pool.fetchrow("SELECT last_status, last_error FROM workspace_schedules")
    assert tuple(last or ()) == ("error", "no luck")


async def test_a_delegation_that_the_ledger_has_forgotten_ends(
    pool: Pool, slice_: Slice, me: UUID
) -> None:
    schedule_id = await schedule(slice_, me)
    await schedules_of(slice_).run(me, schedule_id, deliver=True)
    await pool.execute("DELETE FROM delegations")
    await _settle(slice_)
    assert await rows_of(pool) == [("running", "", 1)]
    await pool.execute("UPDATE schedule_runs SET fired_at = now() - interval '8 days'")
    await _settle(slice_)
    assert await rows_of(pool) == [("error", rules.FORGOTTEN, 1)]


async def test_history_is_kept_for_a_while_and_in_number(
    pool: Pool, slice_: Slice, me: UUID
) -> None:
    """30 days and 200 fires; what is under way stays."""
    schedule_id = await schedule(slice_, me)
    await schedules_of(slice_).run(me, schedule_id, deliver=True)
    await pool.execute(
        """
        INSERT INTO schedule_runs (id, schedule_id, organization_id, workspace_id, trigger,
                                   scheduled_for, state, ended_at)
        SELECT gen_random_uuid(), $1, $2, $3, 'cron', now() - n * interval '1 hour', 'ok', now()
        FROM generate_series(1, 800) n
        """,
        schedule_id, ORGANIZATION, me,
    )  # fmt: skip
    await pool.execute("UPDATE schedule_runs SET scheduled_for = now() - interval '90 days'"
                       " WHERE state = 'running'")  # fmt: skip
    sweep = Outcomes(pool, slice_.ledger.fires, retention_days=30).sweep
    await asyncio.gather(sweep(), sweep())
    kept = await pool.fetch("SELECT state, count(*) FROM schedule_runs GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in kept] == [("ok", 200), ("running", 1)]


async def test_a_change_counts_from_now(pool: Pool, slice_: Slice, me: UUID) -> None:
    """Nothing that was missed is made up for, unless only name or prompt change."""
    schedules = schedules_of(slice_)
    schedule_id = await schedule(slice_, me)
    await make_due(pool)
    renamed = await schedules.update(me, schedule_id, ScheduleChange(name="other", prompt="p"))
    now = await pool.fetchval("SELECT now()")
    assert renamed.next_run_at is not None
    assert renamed.next_run_at < now
    for change in (ScheduleChange(cron_expr="5 * * * *"), ScheduleChange(enabled=False)):
        changed = await schedules.update(me, schedule_id, change)
        assert changed.next_run_at is None or changed.next_run_at > now
    back = await schedules.update(me, schedule_id, ScheduleChange(enabled=True))
    assert back.next_run_at is not None
    assert back.next_run_at > now


async def test_names_are_unique_and_numbers_are_bounded(
    pool: Pool, slice_: Slice, me: UUID
) -> None:
    await schedule(slice_, me)
    second = await schedule(slice_, me, name="second")
    with pytest.raises(AlreadyExists):
        await schedule(slice_, me)
    with pytest.raises(AlreadyExists):
        await schedules_of(slice_).update(me, second, ScheduleChange(name="yearly"))
    await pool.execute(
        """
        INSERT INTO workspace_schedules (id, organization_id, workspace_id, name, cron_expr, prompt,
                                         enabled)
        SELECT gen_random_uuid(), $1, $2, n, '* * * * *', 'p', false FROM generate_series(1, 98) n
        """,
        ORGANIZATION, me,
    )  # fmt: skip
    with pytest.raises(Exhausted):
        await schedule(slice_, me, name="one too many")
    with pytest.raises(NotFound):
        await schedule(slice_, new_id())


async def test_a_template_refreshes_what_it_made_and_leaves_the_rest(
    pool: Pool, slice_: Slice, me: UUID
) -> None:
    """Twice the same changes nothing; what cannot be a schedule is named with its reason."""
    templates = TemplateSchedules(slice_.core.quotas, nothing)
    await schedule(slice_, me, name="own", prompt="mine")

    async def put(*wanted: TemplateSchedule) -> list[tuple[str, str]]:
        async with pool.acquire() as conn, conn.transaction():
            return await templates.put(conn, me, wanted)

    async def look() -> list[tuple[Any, ...]]:
        found = await pool.fetch(
            "SELECT name, cron_expr, prompt, source, enabled, updated_at FROM workspace_schedules"
            " ORDER BY name"
        )
        return [tuple(row) for row in found]

    wanted = [
        TemplateSchedule("lists", "7,37 8-18/2 * * MON-FRI", "Europe/Berlin", "look"),
        TemplateSchedule("own", "* * * * *", "UTC", "theirs"),
        TemplateSchedule("bad", "often", "UTC", "look"),
        TemplateSchedule("blank", "* * * * *", "UTC", "  "),
        TemplateSchedule("off", "* * * * *", "", "look", False),
    ]
    skipped = await put(*wanted)
    assert [name for name, _ in skipped] == ["own", "bad", "blank"]
    before = await look()
    assert [row[:2] for row in before] == [
        ("lists", "7,37 8-18/2 * * MON-FRI"), ("off", "* * * * *"), ("own", YEARLY),
    ]  # fmt: skip
    await put(*wanted)
    assert await look() == before
    await put(wanted[0]._replace(prompt="look twice"))
    assert [(row[2], row[3]) for row in await look()] == [
        ("look twice", "template"), ("look", "template"), ("mine", "runtime"),
    ]  # fmt: skip


async def test_a_deleted_schedule_takes_its_history_along(
    pool: Pool, slice_: Slice, me: UUID
) -> None:
    """Also while fires of it are being noted: whoever is second finds nothing."""
    schedules = schedules_of(slice_)
    schedule_id = await schedule(slice_, me)
    fired = await schedules.run(me, schedule_id, deliver=True)
    await slice_.update(me, str(fired.delegation_id), "completed", "done")
    await asyncio.gather(schedules.delete(me, schedule_id), _settle(slice_))
    assert await rows_of(pool) == []
    with pytest.raises(NotFound):
        await schedules.delete(me, schedule_id)
    assert await runs.take_over(pool, 10) == []
