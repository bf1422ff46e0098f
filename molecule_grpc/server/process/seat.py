"""Seats of a fleet. A seat holds one serving process at a time, and outlives it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import structlog

log = structlog.get_logger(__name__)

_SPARE_SECONDS = 1.0  # Between two looks whether a spare process is missing.


class Process(Protocol):
    """A serving process from start to exit: loaded, opened and ended once each."""

    @property
    def pid(self) -> int:
        """The process, once loaded."""

    @property
    def alive(self) -> bool:
        """Whether the process has been loaded and has not ended."""

    @property
    def ready(self) -> bool:
        """Whether the process has ever given a sign of life."""

    async def load(self) -> None:
        """Start a process that loads the program, and waits."""

    def open(self) -> None:
        """Tell the loaded process to begin serving; returns at once."""

    async def wait_ready(self) -> None:
        """Wait until the process serves clients.

        Raises:
            EdgeError: the process ended before, or took more than 180 s.
        """

    async def wait(self) -> int:
        """Wait until the process has ended; the exit code."""

    async def answers(self) -> bool:
        """Whether the process gave a sign of life since the last call; False before the first."""

    async def stop(self, wait_limit: float, *, replaced: bool) -> None:
        """Let calls in flight finish, for at most `wait_limit` seconds, then end the process.

        Args:
            replaced: whether a successor serves already; health then stays SERVING.
        """

    async def kill(self) -> None:
        """End the process at once."""


P = TypeVar("P", bound=Process)


class Spare(Generic[P]):
    """At most one process that has loaded the program and waits.

    Loading takes most of a start: a process that died is replaced in a fraction of it.
    """

    def __init__(self, make: Callable[[], P]) -> None:
        self._make = make
        self._process: P | None = None

    def take(self) -> P | None:
        """The process, if there is one."""
        process, self._process = self._process, None
        return process if process is not None and process.alive else None

    async def keep(self, wanted: Callable[[], bool]) -> None:
        """Load a process whenever there is none and `wanted` says so. Runs until cancelled."""
        while True:
            if wanted() and not (self._process is not None and self._process.alive):
                process = self._make()
                try:
                    await process.load()
                    self._process = process
                except OSError as error:
                    log.warning("no spare process", error=str(error))
            await asyncio.sleep(_SPARE_SECONDS)

    async def drop(self) -> None:
        """End the spare process; `keep` loads a successor from the program now on disk."""
        if process := self.take():
            await process.kill()


class Seat(Generic[P]):
    """A child of the fleet whose process is started again after each exit."""

    def __init__(self, make: Callable[[], P], spare: Spare[P] | None) -> None:
        self._make = make
        self._spare = spare
        self._process: P | None = None
        # The process replaced last, and the task that ends this process.
        self._replaced: P | None = None
        self._leaving: asyncio.Task[None] | None = None
        # `start`, after an exit, and `replace` must not both assign `_process`.
        self._changing = asyncio.Lock()

    @property
    def process(self) -> P:
        """The newest process of this seat."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def processes(self) -> list[P]:
        """The newest process, and the one that it has replaced, also when they have ended."""
        return [each for each in (self._process, self._replaced) if each is not None]

    @property
    def pid(self) -> int:
        """Process id of `process`."""
        return self.process.pid

    async def start(self) -> None:
        """Open the spare process, or load and open a new one, unless a process is alive."""
        async with self._changing:
            if self._process is not None and self._process.alive:
                return
            spare = self._spare.take() if self._spare else None
            process = spare or self._make()
            if spare is None:
                await process.load()
            process.open()
            self._process = process

    async def wait(self) -> int:
        """Wait until the newest process has ended; the exit code."""
        while True:
            process = self.process
            code = await process.wait()
            async with self._changing:
                if process is self._process:
                    return code

    async def answers(self) -> bool:
        """Whether the process gave a sign of life since the last call."""
        return await self.process.answers()

    async def replace(self, wait_limit: float) -> None:
        """Start a successor; once ready, give the old process `wait_limit` seconds to finish.

        Raises:
            EdgeError: the successor did not get ready; the old process serves on.
        """
        successor = self._make()
        await successor.load()
        try:
            successor.open()
            await successor.wait_ready()
        except BaseException:
            await successor.kill()
            raise
        async with self._changing:
            before = self._replaced = self.process
            self._process = successor
        self._leaving = asyncio.create_task(before.stop(wait_limit, replaced=True))
        await asyncio.shield(self._leaving)  # A stop of the fleet waits for it, too.

    async def stop(self, wait_limit: float) -> None:
        """Let calls in flight finish, for at most `wait_limit` seconds, then end the process."""
        if self._process is not None:
            await self._process.stop(wait_limit, replaced=False)
        if self._leaving is not None:
            await self._leaving


async def replace_all(seats: Sequence[Seat[P]], spare: Spare[P] | None, wait_limit: float) -> None:
    """Replace one process after the other. Each may take `wait_limit` seconds to finish its calls.

    Raises:
        EdgeError: a new process did not get ready; those not yet replaced serve on.
    """
    if spare is not None:
        await spare.drop()  # Loaded from the old version of the program.
    for number, seat in enumerate(seats, start=1):
        await seat.replace(wait_limit)
        log.info("a process was replaced", number=number, of=len(seats))
