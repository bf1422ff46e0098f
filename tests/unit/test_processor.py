"""The event loop's time as a budget: who is limited, who waits, and what is counted."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.kernel.metered import call_meter, charged, metered
from molecule_grpc.kernel.payer import ORGANIZATION, Payer
from molecule_grpc.kernel.processor import Meter, ProcessorTime, ProcessorTurns
from tests.waiting import PATIENCE

SHARE = 0.25
STEP = 0.01


class Loop:
    """A loop of pretended time, on which calls take the time that they say."""

    def __init__(self, limit: int = 250) -> None:
        self.now = 1000.0
        self.stolen = 0.0  # the part of the time that other programs have
        self.time = ProcessorTime(
            limit, clock=lambda: self.now, processor_clock=lambda: self.now * (1 - self.stolen)
        )
        self.turns = ProcessorTurns(self.time, most_waiting=2, patience=PATIENCE)
        self.used: dict[str, float] = {}

    def meter(self, who: str) -> Meter:
        return self.turns.meter(Payer(who))

    def call(self, who: str, seconds: float) -> bool:
        """Make a call if its turn has come."""
        meter = self.meter(who)
        if not self.turns.begins(meter):
            return False
        meter.account.used += seconds
        self.used[who] = self.used.get(who, 0.0) + seconds
        return True

    def run(self, seconds: float, *greedy: str, light: str = "", cost: float = 0.002) -> None:
        """All greedy ones try to use all the time, the light one calls ten times a second."""
        self.used.clear()
        until, calls = self.now + seconds, 0
        while self.now < until:
            for who in greedy:
                while self.used.get(who, 0.0) < seconds and self.call(who, cost):
                    if sum(self.used.values()) > seconds - (until - self.now) + STEP:
                        break
            if light and calls % 10 == 0:
                assert self.call(light, 0.002), "a light caller waits"
            calls += 1
            self.now += STEP


def test_an_organization_alone_uses_the_whole_loop() -> None:
    loop = Loop()
    loop.run(5, "fleet")
    assert loop.used["fleet"] >= 4.9


def test_a_probe_each_second_limits_nobody() -> None:
    loop = Loop()
    for _ in range(10):
        assert loop.call("strangers", 0.001)
        loop.run(1, "fleet")
        assert loop.used["fleet"] >= 0.95


def test_beside_another_it_has_its_share() -> None:
    loop = Loop()
    loop.run(5, "greedy", light="light")
    loop.run(10, "greedy", light="light")
    assert loop.used["greedy"] == pytest.approx(10 * SHARE, rel=0.1)


def test_what_costs_more_than_it_was_taken_for_is_paid_for_afterwards() -> None:
    loop = Loop()
    loop.run(5, "greedy", light="light", cost=0.0005)
    loop.run(20, "greedy", light="light", cost=0.2)
    assert loop.used["greedy"] == pytest.approx(20 * SHARE, rel=0.15)


def test_more_than_three_share_three_quarters() -> None:
    loop = Loop()
    greedy = [f"greedy {n}" for n in range(6)]
    loop.run(8, *greedy, light="light")
    loop.run(20, *greedy, light="light")
    assert sum(loop.used[who] for who in greedy) == pytest.approx(20 * 0.75, rel=0.1)
    assert min(loop.used[who] for who in greedy) >= 20 * 0.75 / 6 * 0.8


def test_who_was_quiet_may_go_beyond_its_share_for_a_moment() -> None:
    loop = Loop()
    loop.run(5, light="light")
    loop.run(1, "greedy", light="light")
    assert 0.5 <= loop.used["greedy"] <= 0.8


def test_a_limit_of_a_whole_second_is_none() -> None:
    loop = Loop(limit=1000)
    loop.run(5, "greedy", light="light")
    assert loop.used["greedy"] >= 4.8


def test_the_limit_ends_when_nobody_else_calls() -> None:
    loop = Loop()
    loop.run(5, "greedy", light="light")
    loop.run(6, "greedy")
    loop.run(1, "greedy")
    assert loop.used["greedy"] >= 0.95


def test_time_that_other_programs_had_is_nobodys_use() -> None:
    """On a machine whose processors are busy elsewhere, each step takes longer than it costs."""
    loop = Loop()
    loop.stolen = 0.9
    loop.time.look(loop.now)
    loop.run(5, "greedy", light="light")
    loop.run(10, "greedy", light="light")
    assert loop.used["greedy"] >= 9


def test_its_use_is_told_in_milliseconds_of_each_second() -> None:
    loop = Loop()
    loop.run(5, "greedy", light="light")
    [use] = loop.time.uses(organization="greedy")
    assert use.dimension == ORGANIZATION
    assert use.limit == 250
    assert 200 <= use.used <= 300
    assert loop.time.uses(organization="nobody")[0].used == 0


async def behind() -> tuple[Loop, Meter]:
    """A loop on which `greedy` must wait for seconds of pretended time."""
    loop = Loop()
    loop.run(5, "greedy", light="light")
    loop.meter("greedy").account.used += 1.0
    return loop, loop.meter("greedy")


async def begun(wait: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    async def waiting() -> None:
        await wait()

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    return task


async def test_who_waits_goes_on_when_its_time_has_come_calls_and_messages_alike() -> None:
    loop, meter = await behind()
    assert not loop.turns.begins(meter)
    call = await begun(lambda: loop.turns.turn(meter))
    message = await begun(lambda: loop.turns.message_turn(meter))
    assert not call.done()
    assert not message.done()
    loop.now += 10.0
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(call, message)
    assert loop.turns.waits == 2


async def test_a_newcomer_does_not_overtake_who_waits() -> None:
    loop, meter = await behind()
    call = await begun(lambda: loop.turns.turn(meter))
    loop.run(4.1, light="light")
    assert not meter.account.behind(loop.now)
    assert not loop.turns.begins(loop.meter("greedy"))
    await call


async def test_more_calls_than_may_wait_are_refused_with_whose_limit_it_is() -> None:
    loop, meter = await behind()
    waiting = [await begun(lambda: loop.turns.turn(meter)) for _ in range(2)]
    with pytest.raises(Exhausted) as caught:
        await loop.turns.turn(meter)
    assert caught.value.quota is not None
    assert caught.value.quota[0] == "organization:greedy"
    assert caught.value.retry_after == 1
    assert loop.time.refused[ORGANIZATION] == 1
    # Messages of streams wait, however many.
    waiting += [await begun(lambda: loop.turns.message_turn(meter)) for _ in range(5)]
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert meter.account.waiting == 0


async def test_who_waits_too_long_is_refused() -> None:
    loop, meter = await behind()
    turns = ProcessorTurns(loop.time, most_waiting=2, patience=0.01)
    with pytest.raises(Exhausted):
        await turns.turn(meter)


# The meter.


def spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def a_meter() -> Meter:
    return Loop().meter("somebody")


async def test_steps_are_counted_and_waits_are_not() -> None:
    meter, gate = a_meter(), asyncio.Event()

    async def work() -> str:
        spin(0.01)
        await gate.wait()
        spin(0.01)
        return "done"

    task = asyncio.create_task(wrapped(metered(work(), meter)))
    await asyncio.sleep(0)
    waited = time.perf_counter()
    first = meter.account.used
    spin(0.05)
    gate.set()
    assert await task == "done"
    assert first >= 0.01
    assert meter.account.used >= 0.02
    assert meter.account.used <= first + time.perf_counter() - waited - 0.05


async def wrapped(work: Awaitable[Any]) -> Any:
    return await work


async def test_errors_and_cancellation_reach_the_work_and_come_back() -> None:
    meter = a_meter()
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            ended.append("cancelled")
            spin(0.01)
            raise
        finally:
            ended.append("closed")

    task = asyncio.create_task(wrapped(metered(work(), meter)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled", "closed"]
    assert meter.account.used >= 0.01

    async def fails() -> None:
        raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        await metered(fails(), meter)


async def test_work_in_a_task_of_its_own_is_charged_to_who_started_it() -> None:
    meter = a_meter()

    async def busy() -> None:
        spin(0.01)

    async def call() -> None:
        call_meter.set(meter)
        await asyncio.create_task(charged(busy()))

    await asyncio.create_task(call())
    assert meter.account.used >= 0.01
    with contextlib.suppress(RuntimeError):
        await asyncio.create_task(charged(busy()))  # nobody pays
