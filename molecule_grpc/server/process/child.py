"""Keeps a child process running: a dead process is restarted, a frozen process is killed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

import psutil
import structlog

from molecule_grpc.kernel.restarts import RestartPauses

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.25
# A signal has stopped the process: no load does that, so 0.5 s are enough to be sure.
_STOPPED_LOOKS = 2
# A process that is merely busy, or short of CPU, answers sooner.
SILENT_SECONDS = 15.0
_SILENT_LOOKS = SILENT_SECONDS / _LOOK_SECONDS


class Child(Protocol):
    """A process that can be started any number of times."""

    @property
    def pid(self) -> int:
        """The process that was started last."""

    async def start(self) -> None:
        """Start the process."""

    async def wait(self) -> int:
        """Wait until the process has ended; the exit code."""

    async def answers(self) -> bool:
        """Whether the process gave a sign of life since the last call; False before the first."""


async def keep(name: str, child: Child) -> None:
    """Restart a running child whenever it ends. Runs until cancelled, and leaves the child alone.

    The first restart is immediate; a child that keeps dying waits for up to 10 s.
    """
    loop, pauses = asyncio.get_running_loop(), RestartPauses()
    started = loop.time()
    running = True
    while True:
        try:
            if not running:
                await child.start()
            end: object = await _life(name, child)
        except OSError as error:  # not even started
            end = error
        running = False
        pause = pauses.after(loop.time() - started)
        log.error("a process died, restarting", process=name, end=str(end), pause=pause)
        await asyncio.sleep(pause)
        started = loop.time()


async def _life(name: str, child: Child) -> int:
    watching = asyncio.create_task(_end_when_frozen(name, child))
    try:
        return await child.wait()
    finally:
        watching.cancel()


async def _end_when_frozen(name: str, child: Child) -> None:
    while True:
        pid, why = await _until_frozen(child)
        log.error("a process is frozen, killing it", process=name, because=why)
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()


async def _until_frozen(child: Child) -> tuple[int, str]:
    """Wait until the child is frozen. Returns the id of its process, and the reason for the log.

    Looks are counted, not seconds: when the whole machine stands still, so does the counting. Each
    process is counted for itself: a restart puts another one in the place of the one before.
    """
    pid, stopped, silent, heard = child.pid, 0, 0, False
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if pid != child.pid:
            pid, stopped, silent, heard = child.pid, 0, 0, False
        if _is_stopped(pid):
            stopped += 1
            if stopped >= _STOPPED_LOOKS:
                return pid, "stopped by a signal"
            continue  # asking would only wait in vain
        stopped = 0
        if await child.answers():
            heard, silent = True, 0
        elif heard:
            silent += 1
        if silent >= _SILENT_LOOKS:
            return pid, f"gave no sign of life for {SILENT_SECONDS:g} s"


def _is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process. A debugger's stop is another state."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False
