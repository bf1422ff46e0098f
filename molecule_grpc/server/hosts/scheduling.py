"""Keeps gRPC's polling thread on the core that the event loop runs on.

The poller hands the loop every event of a socket, four times a call, and then waits for the next.
On two cores, each event wakes the other core: a call costs a third more CPU, and a worker serves
a quarter fewer calls. On one core, a poller that interrupts the loop for each event makes
messages of a stream more expensive: SCHED_BATCH lets the poller run when the loop pauses, and then
take all events at once. `python -m benchmarks.wire` and `benchmarks.delegations` measure both.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable

from molecule_grpc.server.tasks import BackgroundTask

# How often the loop's core is looked up.
_PERIOD_SECONDS = 0.05


class Affinity:
    """Sets the poller's core and scheduling class. Made in the loop's thread, after gRPC's start.

    The loop's own thread is not bound to a core: it cannot starve behind another process there, and
    child processes inherit no binding.
    """

    def __init__(self) -> None:
        threads = (thread for thread in threading.enumerate() if thread.daemon)
        self._pollers = [thread.native_id for thread in threads if thread.native_id is not None]
        # Only Linux has these calls; with a single core there is nothing to follow.
        self._useful = sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1
        self._core: int | None = None
        if self._useful:
            # The core of the calling thread in 1 us; from /proc it takes 100.
            self._core_now: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu
            for poller in self._pollers:
                with _at_best():
                    os.sched_setscheduler(poller, os.SCHED_BATCH, os.sched_param(0))

    async def follow(self) -> None:
        """Move the poller to the core that runs the loop. Call in the loop's thread."""
        if not self._useful or (core := self._core_now()) == self._core:
            return
        self._core = core
        for poller in self._pollers:
            with _at_best():
                os.sched_setaffinity(poller, {core})


def poller_affinity() -> BackgroundTask:
    """The task that runs beside a gRPC server. Call in the loop's thread, after gRPC's start."""
    return BackgroundTask("affinity", _PERIOD_SECONDS, Affinity().follow)


def _at_best() -> contextlib.AbstractContextManager[None]:
    """Ignore OSError: the thread has ended, a sandbox forbids the call, the core is offline."""
    return contextlib.suppress(OSError)
