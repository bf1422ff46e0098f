"""Background tasks: what supervises a step that fails, hangs, or is no longer needed."""

from __future__ import annotations

import asyncio

import pytest

from molecule_grpc.server import tasks
from molecule_grpc.server.tasks import BackgroundTask
from tests.waiting import PATIENCE

FOREVER = 3600.0
STEP_TIMEOUT = 77.0


class Step:
    """A step that fails so many times, and counts its runs."""

    def __init__(self, failures: int = 0) -> None:
        self.runs = 0
        self.changed = asyncio.Event()
        self._failures = failures

    async def __call__(self) -> None:
        self.runs += 1
        self.changed.set()
        if self.runs <= self._failures:
            raise RuntimeError("the database is away")

    async def ran(self, times: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.runs < times:
                self.changed.clear()
                await self.changed.wait()


async def stop(running: asyncio.Task[None]) -> None:
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long tasks mean to wait between their steps. They wait a millisecond."""
    asked: list[float] = []
    real = asyncio.timeout

    def timeout(seconds: float) -> asyncio.Timeout:
        if seconds == STEP_TIMEOUT:
            return real(seconds)
        asked.append(seconds)
        return real(0.001)

    monkeypatch.setattr(asyncio, "timeout", timeout)
    return asked


@pytest.mark.parametrize(
    ("period", "expected"),
    [(FOREVER, [1, 2, 4, 8, 16, 30, 30, FOREVER]), (5.0, [1, 2, 4, 5, 5, 5, 5, 5])],
    ids=["at most 30 s", "at most the period"],
)
async def test_a_step_that_raises_is_run_again_after_a_pause_that_doubles(
    pauses: list[float], period: float, expected: list[float]
) -> None:
    """W56: an exception restarts the loop with backoff; the first success ends the backoff."""
    step = Step(failures=7)
    task = BackgroundTask("failing", period, step, timeout=STEP_TIMEOUT)
    running = asyncio.create_task(task.run())
    while len(pauses) < len(expected):
        await asyncio.sleep(0)
        assert (task.last_success is None) == (step.runs <= 7)
    await stop(running)
    assert pauses[: len(expected)] == expected
    assert task.failures == 0


async def test_a_step_that_hangs_fails_and_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """W56: a step that never ends is cancelled after `timeout` seconds and run again."""
    monkeypatch.setattr(tasks, "_FIRST_RETRY_SECONDS", 0.01)
    runs = Step()

    async def hang() -> None:
        await runs()
        await asyncio.Event().wait()

    task = BackgroundTask("hanging", FOREVER, hang, timeout=0.01)
    running = asyncio.create_task(task.run())
    await runs.ran(3)
    assert task.failures >= 2
    await stop(running)


async def test_a_task_that_is_stopped_runs_no_more() -> None:
    """W56: a stop is no failure: the loop ends, in a pause as in the middle of a step."""
    step = Step()
    task = BackgroundTask("stopped", FOREVER, step)
    running = asyncio.create_task(task.run())
    await step.ran(1)
    await stop(running)
    task.nudge()
    await asyncio.sleep(0)
    assert (step.runs, task.failures) == (1, 0)

    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    task = BackgroundTask("stopped", FOREVER, hang)
    running = asyncio.create_task(task.run())
    await started.wait()
    await stop(running)
    assert task.failures == 0


async def test_one_task_that_fails_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_FIRST_RETRY_SECONDS", 0.01)
    failing, well = Step(failures=1000), Step()
    async with asyncio.TaskGroup() as group:
        running = [
            group.create_task(BackgroundTask("failing", FOREVER, failing).run()),
            group.create_task(BackgroundTask("well", 0.01, well).run()),
        ]
        await failing.ran(5)
        await well.ran(5)
        for each in running:
            each.cancel()


async def test_a_nudge_ends_the_pause() -> None:
    step = Step()
    task = BackgroundTask("nudged", FOREVER, step)
    running = asyncio.create_task(task.run())
    await step.ran(1)
    task.nudge()
    await step.ran(2)
    await stop(running)
