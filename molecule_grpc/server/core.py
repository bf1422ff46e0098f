"""Keeps the two threads that serve calls on one core.

A thread of gRPC polls the sockets and hands every event to the event loop, four times a call. On
two cores each of them wakes the other core: a call then costs 40 % more CPU, and a worker serves a
quarter fewer of them. `python -m benchmarks.wire` shows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Iterable

import psutil

# How often the core is chosen anew, and how long the scheduler has for it. Other processes may
# have settled on the same one meanwhile.
CORE_SECONDS = 1.0
_CHOICE_SECONDS = 0.01


class Core:
    """The core on which this process serves. Make it in the thread of the loop, gRPC started.

    Threads of executors stay free: they are there to work beside the loop.
    """

    def __init__(self) -> None:
        self._serving = {thread for thread in threading.enumerate() if thread.daemon}
        self._serving.add(threading.current_thread())
        self._process = psutil.Process()
        self._allowed = os.sched_getaffinity(0) if sys.platform == "linux" else set()

    async def settle(self) -> None:
        """Let the scheduler place the loop, then keep it there, and the poller with it."""
        if len(self._allowed) < 2:
            return
        _place(threading.enumerate(), self._allowed)
        await asyncio.sleep(_CHOICE_SECONDS)
        _place(self._serving, {self._process.cpu_num()})


def _place(threads: Iterable[threading.Thread], cores: set[int]) -> None:
    for thread in threads:
        if thread.native_id is not None:
            # It may have ended; a sandbox may forbid it.
            with contextlib.suppress(OSError):
                os.sched_setaffinity(thread.native_id, cores)
