"""Children that die or freeze, and when they are started again."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from molecule_grpc.kernel.restarts import RestartPauses
from molecule_grpc.server.process import child

_SLEEP = (sys.executable, "-c", "import time; time.sleep(1000)")


class Sleeper:
    """A process that does nothing; `alive` says for it whether it gives signs of life."""

    def __init__(self, alive: Callable[[int], bool]) -> None:
        self._alive = alive
        self._process: asyncio.subprocess.Process | None = None
        self.starts = 0
        self.looks = 0
        self.started_again = asyncio.Event()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(*_SLEEP)
        self.starts += 1
        self.looks = 0
        if self.starts > 1:
            self.started_again.set()

    async def wait(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    async def answers(self) -> bool:
        self.looks += 1
        return self._alive(self.looks)

    async def end(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


@contextlib.asynccontextmanager
async def kept(alive: Callable[[int], bool]) -> AsyncIterator[Sleeper]:
    """A sleeper that is kept while the block lasts."""
    sleeper = Sleeper(alive)
    await sleeper.start()
    keeping = asyncio.create_task(child.keep("sleeper", sleeper))
    try:
        yield sleeper
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await sleeper.end()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_LOOK_SECONDS", 0.001)


async def test_a_child_that_falls_silent_is_killed_and_started_again() -> None:
    """One sign of life, then none for 60 looks."""
    async with kept(lambda look: look == 1) as sleeper:
        first = sleeper.pid
        await sleeper.started_again.wait()
        assert sleeper.pid != first


async def test_a_child_that_has_never_answered_is_left_to_start() -> None:
    """Loading and waiting for the database take as long as they take."""
    async with kept(lambda look: False) as sleeper:
        while sleeper.looks < 200:
            await asyncio.sleep(0.001)
        assert sleeper.starts == 1


async def test_a_stopped_child_is_killed_although_it_has_just_answered() -> None:
    async with kept(lambda look: True) as sleeper:
        sleeper._process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
        await sleeper.started_again.wait()


def test_the_first_restart_is_immediate_and_later_ones_wait_ever_longer() -> None:
    pauses = RestartPauses()
    assert [pauses.after(1.0) for _ in range(8)] == [0, 0.5, 1, 2, 4, 8, 10, 10]
    assert [pauses.after(10.0), pauses.after(1.0)] == [0, 0.5]
