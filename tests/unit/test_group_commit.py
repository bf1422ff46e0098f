"""Promises of the batcher, on plain asyncio flushes."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molecule_grpc.db.group_commit import GroupCommit, QueueFull, Stopped
from molecule_grpc.kernel.errors import Exhausted, Unavailable
from tests.conftest import LONG

FOREVER = 3600.0


def always() -> bool:
    return True


OUTAGES = [
    asyncpg.ConnectionDoesNotExistError("connection was closed"),
    asyncpg.AdminShutdownError("terminating"),
    asyncpg.CannotConnectNowError("starting up"),
    asyncpg.TooManyConnectionsError("sorry"),
    asyncpg.QueryCanceledError("statement timeout"),
    asyncpg.LockNotAvailableError("lock timeout"),
    asyncpg.InterfaceError("connection is closed"),
    ConnectionResetError(),
    TimeoutError(),
    Unavailable("down"),
]
RACES = [
    asyncpg.DeadlockDetectedError("deadlock"),
    asyncpg.SerializationError("serialization"),
    asyncpg.UniqueViolationError("duplicate"),
]


@dataclass
class Flush:
    """Answers "<item>!", fails on negative items, raises `faults` first, and can be held."""

    faults: list[Exception] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, items: Sequence[int]) -> list[str | Exception]:
        self.batches.append(list(items))
        self.entered.set()
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        if bad := [item for item in items if item < 0]:
            raise ValueError(f"malformed {bad[0]}")
        self.done.extend(items)
        return [f"{item}!" for item in items]

    def open(self) -> Flush:
        self.gate.set()
        return self


async def queued(batcher: GroupCommit[int, str], count: int) -> None:
    """Let the callers run until exactly so many wait."""
    while batcher.waiting != count:
        await asyncio.sleep(0)


def submit_all(batcher: GroupCommit[int, str], items: Sequence[int]) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(batcher.submit(item)) for item in items]


async def outcomes(calls: Sequence[asyncio.Task[str]]) -> list[str | BaseException]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def hold_one(batcher: GroupCommit[int, str], flush: Flush) -> asyncio.Task[str]:
    """Bring item 0 in flight and keep it there."""
    await batcher.start()
    [call] = submit_all(batcher, [0])
    await flush.entered.wait()
    return call


async def test_a_lone_caller_is_flushed_at_once() -> None:
    batcher = GroupCommit("test", Flush().open(), linger=FOREVER, busy=always)
    await batcher.start()
    assert [await batcher.submit(1), await batcher.submit(2)] == ["1!", "2!"]
    await batcher.stop()


async def test_what_arrives_during_a_flush_shares_the_next_one() -> None:
    flush = Flush()
    batcher = GroupCommit("test", flush)
    calls = [await hold_one(batcher, flush), *submit_all(batcher, range(1, 30))]
    await queued(batcher, 29)
    flush.open()
    assert await outcomes(calls) == [f"{n}!" for n in range(30)]
    assert flush.batches == [[0], list(range(1, 30))]
    await batcher.stop()


async def test_a_flush_takes_no_more_than_its_cap() -> None:
    flush = Flush().open()
    batcher = GroupCommit("test", flush, max_batch=4)
    calls = submit_all(batcher, range(10))
    await queued(batcher, 10)
    await batcher.start()
    await outcomes(calls)
    assert flush.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    await batcher.stop()


async def test_equal_keys_never_share_a_flush_and_keep_their_order() -> None:
    flush = Flush().open()
    batcher = GroupCommit("test", flush, key=lambda item: item % 10)
    calls = submit_all(batcher, [1, 11, 2, 21, 3])
    await queued(batcher, 5)
    await batcher.start()
    assert await outcomes(calls) == ["1!", "11!", "2!", "21!", "3!"]
    assert flush.batches == [[1, 2, 3], [11], [21]]
    await batcher.stop()


async def test_a_key_in_flight_may_join_the_next_flush() -> None:
    flush = Flush()
    batcher = GroupCommit("test", flush, key=lambda item: item % 10)
    calls = [await hold_one(batcher, flush), *submit_all(batcher, [10, 1])]
    await queued(batcher, 2)
    flush.open()
    await outcomes(calls)
    assert flush.batches == [[0], [10, 1]]
    await batcher.stop()


async def test_a_caller_cancelled_in_flight_cancels_neither_flush_nor_neighbours() -> None:
    flush, told = Flush(), list[tuple[int, str]]()
    batcher = GroupCommit("test", flush, after_flush=told.extend)
    calls = submit_all(batcher, [1, 2])
    await queued(batcher, 2)
    await batcher.start()
    await flush.entered.wait()
    calls[0].cancel()
    flush.open()
    cancelled, answered = await outcomes(calls)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert answered == "2!"
    assert told == [(1, "1!"), (2, "2!")]
    await batcher.stop()


async def test_a_caller_cancelled_while_queued_is_left_out_and_blocks_nobody() -> None:
    flush = Flush().open()
    batcher = GroupCommit("test", flush, key=lambda item: item % 10)
    calls = submit_all(batcher, [1, 11, 21])
    await queued(batcher, 3)
    calls[0].cancel()
    calls[1].cancel()
    await batcher.start()
    assert (await outcomes(calls))[2] == "21!"
    assert flush.done == [21]
    await batcher.stop()


async def test_malformed_items_fail_and_no_good_one_does() -> None:
    flush = Flush().open()
    batcher = GroupCommit("test", flush)
    items = [-n if n % 20 == 7 else n for n in range(1, 501)]
    calls = submit_all(batcher, items)
    await queued(batcher, 500)
    await batcher.start()
    got = await outcomes(calls)
    assert [item for item, it in zip(items, got, strict=True) if isinstance(it, ValueError)] == [
        item for item in items if item < 0
    ]
    assert [str(it) for item, it in zip(items, got, strict=True) if item < 0] == [
        f"malformed {item}" for item in items if item < 0
    ]
    assert flush.done == [item for item in items if item > 0]
    await batcher.stop()


async def test_one_malformed_item_costs_a_logarithm_of_flushes() -> None:
    flush = Flush().open()
    batcher = GroupCommit("test", flush)
    calls = submit_all(batcher, [*range(1, 300), -1, *range(300, 512)])
    await queued(batcher, 512)
    await batcher.start()
    await outcomes(calls)
    assert len(flush.batches) <= 1 + 2 * math.log2(512)
    await batcher.stop()


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda exc: type(exc).__name__)
async def test_an_outage_is_told_to_every_caller_and_not_retried(outage: Exception) -> None:
    flush = Flush([outage]).open()
    batcher = GroupCommit("test", flush)
    calls = submit_all(batcher, [1, 2, 3])
    await queued(batcher, 3)
    await batcher.start()
    assert await outcomes(calls) == [outage] * 3
    assert flush.batches == [[1, 2, 3]]
    assert await batcher.submit(4) == "4!"
    await batcher.stop()


async def test_an_outage_while_splitting_ends_it_and_keeps_what_was_done() -> None:
    flush = Flush([ValueError("first"), ValueError("left half")]).open()
    batcher = GroupCommit("test", flush, after_flush=lambda _: flush.faults.append(OUTAGES[0]))
    calls = submit_all(batcher, [1, 2, 3, 4])
    await queued(batcher, 4)
    await batcher.start()
    assert await outcomes(calls) == ["1!", *[OUTAGES[0]] * 3]
    assert flush.batches == [[1, 2, 3, 4], [1, 2], [1], [2]]
    await batcher.stop()


@pytest.mark.parametrize("race", RACES, ids=lambda exc: type(exc).__name__)
async def test_a_lost_race_repeats_the_whole_batch_once(race: Exception) -> None:
    flush = Flush([race]).open()
    batcher = GroupCommit("test", flush)
    calls = submit_all(batcher, [1, 2, 3])
    await queued(batcher, 3)
    await batcher.start()
    assert await outcomes(calls) == ["1!", "2!", "3!"]
    assert flush.batches == [[1, 2, 3], [1, 2, 3]]
    await batcher.stop()


async def test_a_race_lost_four_times_is_split() -> None:
    flush = Flush([RACES[0]] * 4).open()
    batcher = GroupCommit("test", flush)
    calls = submit_all(batcher, [1, 2])
    await queued(batcher, 2)
    await batcher.start()
    assert await outcomes(calls) == ["1!", "2!"]
    assert flush.batches == [[1, 2]] * 4 + [[1], [2]]
    await batcher.stop()


async def test_an_exception_among_the_outcomes_is_raised_to_its_caller_alone() -> None:
    async def flush(items: Sequence[int]) -> list[str | Exception]:
        return [KeyError(item) if item == 2 else f"{item}!" for item in items]

    told: list[tuple[int, str]] = []
    batcher = GroupCommit("test", flush, after_flush=told.extend)
    calls = submit_all(batcher, [1, 2, 3])
    await queued(batcher, 3)
    await batcher.start()
    first, second, third = await outcomes(calls)
    assert (first, repr(second), third) == ("1!", "KeyError(2)", "3!")
    assert told == [(1, "1!"), (3, "3!")]
    await batcher.stop()


async def test_a_flush_with_too_few_outcomes_fails_and_is_not_repeated() -> None:
    flushed: list[Sequence[int]] = []

    async def flush(items: Sequence[int]) -> list[str]:
        flushed.append(items)
        return ["1!"]

    batcher = GroupCommit("test", flush)
    calls = submit_all(batcher, [1, 2])
    await queued(batcher, 2)
    await batcher.start()
    assert [type(it) for it in await outcomes(calls)] == [RuntimeError, RuntimeError]
    assert flushed == [[1, 2]]
    await batcher.stop()


async def test_stop_flushes_what_is_queued_then_refuses() -> None:
    flush = Flush()
    batcher = GroupCommit("test", flush, linger=FOREVER, busy=always, key=lambda item: item % 10)
    calls = [await hold_one(batcher, flush), *submit_all(batcher, [1, 11, 2])]
    await queued(batcher, 3)
    stopping = asyncio.create_task(batcher.stop())
    await asyncio.sleep(0)
    with pytest.raises(Stopped):
        await batcher.submit(5)
    flush.open()
    await stopping
    assert [call.result() for call in calls] == ["0!", "1!", "11!", "2!"]
    await batcher.stop()


async def test_stop_before_start_releases_the_callers() -> None:
    batcher = GroupCommit("test", Flush())
    [call] = submit_all(batcher, [1])
    await queued(batcher, 1)
    await batcher.stop()
    with pytest.raises(Stopped):
        await call


async def test_giving_up_on_stop_leaves_the_flush_running() -> None:
    flush = Flush()
    batcher = GroupCommit("test", flush)
    call = await hold_one(batcher, flush)
    stopping = asyncio.create_task(batcher.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait({stopping})
    flush.open()
    assert await call == "0!"
    await batcher.stop()


async def test_a_killed_worker_releases_every_caller() -> None:
    flush = Flush()
    batcher = GroupCommit("doomed", flush, key=lambda item: item % 10)
    calls = [await hold_one(batcher, flush), *submit_all(batcher, [1, 11])]
    await queued(batcher, 2)
    [worker] = [task for task in asyncio.all_tasks() if task.get_name() == "group-commit-doomed"]
    worker.cancel()
    assert [type(it) for it in await outcomes(calls)] == [Stopped] * 3
    with pytest.raises(Stopped):
        await batcher.submit(2)


async def test_a_full_queue_refuses_and_recovers() -> None:
    flush = Flush()
    batcher = GroupCommit("test", flush, max_queue=3, key=lambda item: item % 10)
    calls = [await hold_one(batcher, flush), *submit_all(batcher, [1, 11, 21])]
    await queued(batcher, 3)
    with pytest.raises(QueueFull) as refused:
        await batcher.submit(4)
    assert isinstance(refused.value, Exhausted)
    assert refused.value.reason == "QUEUE_FULL"
    flush.open()
    await outcomes(calls)
    assert await batcher.submit(4) == "4!"
    await batcher.stop()


async def test_after_flush_runs_before_any_caller_resumes() -> None:
    events: list[object] = []
    batcher = GroupCommit("test", Flush().open(), after_flush=events.append)
    await batcher.start()
    events.append(await batcher.submit(1))
    assert events == [[(1, "1!")], "1!"]
    await batcher.stop()


async def test_a_failing_hook_fails_nobody() -> None:
    def hook(*_: object) -> None:
        raise RuntimeError("hook")

    batcher = GroupCommit("test", Flush().open(), after_flush=hook, observe=hook)
    await batcher.start()
    assert [await batcher.submit(1), await batcher.submit(2)] == ["1!", "2!"]
    await batcher.stop()


async def test_the_observer_sees_each_batch_once_with_its_failures() -> None:
    seen: list[tuple[int, int]] = []
    batcher = GroupCommit(
        "test", Flush().open(), observe=lambda size, failed, _: seen.append((size, failed))
    )
    calls = submit_all(batcher, [1, -2, 3, -4, 5])
    await queued(batcher, 5)
    await batcher.start()
    await outcomes(calls)
    await batcher.submit(6)
    await batcher.stop()
    assert seen == [(5, 2), (1, 0)]


async def after_a_crowd(
    flush: Flush, *, linger: float = FOREVER, busy: Callable[[], bool] = always
) -> GroupCommit[int, str]:
    """A batcher whose last flush served ten callers."""
    batcher = GroupCommit("test", flush.open(), linger=linger, busy=busy)
    crowd = submit_all(batcher, range(10))
    await queued(batcher, 10)
    await batcher.start()
    await outcomes(crowd)
    return batcher


async def test_a_lingering_flush_leaves_as_soon_as_the_crowd_is_back() -> None:
    flush = Flush()
    batcher = await after_a_crowd(flush)
    calls: list[asyncio.Task[str]] = []
    for group in (range(10, 13), range(13, 18), range(18, 20)):
        assert batcher.waiting == len(calls)
        calls += submit_all(batcher, group)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await outcomes(calls)
    assert [len(batch) for batch in flush.batches] == [10, 10]
    await batcher.stop()


async def test_a_lingering_flush_leaves_without_those_who_stay_away() -> None:
    flush = Flush()
    batcher = await after_a_crowd(flush, linger=0.001)
    assert await outcomes(submit_all(batcher, [10, 11])) == ["10!", "11!"]
    assert [len(batch) for batch in flush.batches] == [10, 2]
    await batcher.stop()


async def test_no_lingering_with_cpu_to_spare() -> None:
    batcher = await after_a_crowd(Flush(), busy=lambda: False)
    assert await batcher.submit(10) == "10!"
    await batcher.stop()


async def test_stop_does_not_linger() -> None:
    flush = Flush()
    batcher = await after_a_crowd(flush)
    flush.gate.clear()
    flush.entered.clear()
    first = submit_all(batcher, range(10, 20))
    await flush.entered.wait()
    rest = submit_all(batcher, range(20, 23))
    await queued(batcher, 3)
    stopping = asyncio.create_task(batcher.stop())
    await asyncio.sleep(0)
    flush.open()
    await stopping
    assert await outcomes([*first, *rest]) == [f"{n}!" for n in range(10, 23)]


@dataclass(frozen=True)
class Ask:
    """One caller of a scenario: its item, and how many turns of the loop pass first."""

    key: int
    kind: str
    pause: int
    cancel_after: int | None


asks = st.builds(
    Ask,
    key=st.integers(0, 4),
    kind=st.sampled_from(["good", "good", "good", "bad", "refused"]),
    pause=st.integers(0, 3),
    cancel_after=st.sampled_from([None, None, None, 0, 1, 3]),
)
faults = st.sampled_from([None, None, None, OUTAGES[0], RACES[0]])


@settings(max_examples=300 if LONG else 100, deadline=None)
@given(
    st.lists(asks, max_size=40),
    st.lists(faults, max_size=12),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.001]),
)
def test_every_caller_gets_exactly_its_own_outcome_once(
    plan: list[Ask], injected: list[Exception | None], max_batch: int, linger: float
) -> None:
    asyncio.run(_check(plan, injected, max_batch, linger))


async def _check(
    plan: list[Ask], injected: list[Exception | None], max_batch: int, linger: float
) -> None:
    applied: list[int] = []
    pending = iter(injected)

    async def flush(numbers: Sequence[int]) -> list[str | Exception]:
        assert 0 < len(numbers) <= max_batch
        assert max(Counter(plan[number].key for number in numbers).values()) == 1
        await asyncio.sleep(0)
        if error := next(pending, None):
            raise error
        if bad := [number for number in numbers if plan[number].kind == "bad"]:
            raise ValueError(bad[0])
        applied.extend(numbers)
        refused = {number for number in numbers if plan[number].kind == "refused"}
        return [KeyError(n) if n in refused else f"{n}!" for n in numbers]

    batcher = GroupCommit(
        "test",
        flush,
        key=lambda number: plan[number].key,
        max_batch=max_batch,
        linger=linger,
        busy=always,
    )
    got = await _play(plan, batcher)
    for number, (ask, outcome) in enumerate(zip(plan, got, strict=True)):
        assert (outcome, applied.count(number)) in _expected(number, ask)
    for key in range(5):
        order = [number for number in applied if plan[number].key == key]
        assert order == sorted(order)


async def _play(plan: list[Ask], batcher: GroupCommit[int, str]) -> list[str]:
    await batcher.start()
    calls: list[asyncio.Task[str]] = []
    for number, ask in enumerate(plan):
        calls += submit_all(batcher, [number])
        for _ in range(ask.pause):
            await asyncio.sleep(0)
        for age, call in enumerate(reversed(calls)):
            if plan[number - age].cancel_after == age:
                call.cancel()
    await asyncio.sleep(0)
    await batcher.stop()
    return [
        "gave up" if isinstance(outcome, asyncio.CancelledError) else repr(outcome)
        for outcome in await outcomes(calls)
    ]


def _expected(number: int, ask: Ask) -> list[tuple[str, int]]:
    """The outcomes an ask may have, each with how often it was then applied."""
    own = {
        "good": (repr(f"{number}!"), 1),
        "refused": (repr(KeyError(number)), 1),
        "bad": (repr(ValueError(number)), 0),
    }
    faults = [(repr(OUTAGES[0]), 0), (repr(RACES[0]), 0)]
    gave_up = [("gave up", 0), ("gave up", 1)] if ask.cancel_after is not None else []
    return [own[ask.kind], *faults, *gave_up]
