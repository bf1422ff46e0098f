"""Background tasks: what supervises a step that fails, hangs, or is no longer needed."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from molecule_grpc.server import tasks
from molecule_grpc.server.tasks import BackgroundTask

FOREVER = 3600.0


class Step:
    """A step that fails so many times, and remembers when it was run."""

    def __init__(self, failures: int = 0) -> None:
        self.runs: list[float] = []
        self.changed = asyncio.Event()
        self._failures = failures

    async def __call__(self) -> None:
        self.runs.append(time.monotonic())
        self.changed.set()
        if len(self.runs) <= self._failures:
            raise RuntimeError("the database is away")

    async def ran(self, times: int) -> None:
        async with asyncio.timeout(30):
            while len(self.runs) < times:
                self.changed.clear()
                await self.changed.wait()


async def stop(running: asyncio.Task[None]) -> None:
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_step_that_raises_is_run_again_after_a_pause_that_doubles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W56: an exception restarts the loop with backoff; the first success ends the backoff."""
    monkeypatch.setattr(tasks, "_FIRST_RETRY_SECONDS", 0.02)
    step = Step(failures=4)
    task = BackgroundTask("failing", FOREVER, step)
    running = asyncio.create_task(task.run())
    await step.ran(5)
    pauses = [later - earlier for earlier, later in itertools.pairwise(step.runs)]
    assert all(
        pause >= least for pause, least in zip(pauses, (0.02, 0.04, 0.08, 0.16), strict=True)
    )
    while not task.last_success:
        await asyncio.sleep(0)
    assert task.failures == 0
    await stop(running)
    assert len(step.runs) == 5


async def test_the_pause_ends_at_the_longest_one_and_at_the_period(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W56: backoff delays a loop that fails for long by 30 s, and never by more than its period."""
    monkeypatch.setattr(tasks, "_LAST_RETRY_SECONDS", 0.02)
    for period, first in ((FOREVER, 1.0), (0.01, 1.0)):
        monkeypatch.setattr(tasks, "_FIRST_RETRY_SECONDS", first)
        step = Step(failures=20)
        task = BackgroundTask("failing", period, step)
        running = asyncio.create_task(task.run())
        await step.ran(10)
        assert task.failures >= 9
        assert task.last_success is None
        await stop(running)


async def test_a_step_that_hangs_fails_and_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """W56: one that never ends is given up after its timeout."""
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
    assert (len(step.runs), task.failures) == (1, 0)

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
