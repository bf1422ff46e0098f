"""Keeps gRPC's polling thread on the core of the event loop, wherever the scheduler moves that.

The poller hands the loop every event of a socket, four times a call, and then waits for the next.
On two cores each of them wakes the other core: a call costs a third more CPU, and a worker serves
a quarter fewer of them. On one core the poller must not interrupt the loop for every event either,
or messages of a stream cost more than before: it takes its turn when the loop pauses, and then
takes all there is. `python -m benchmarks.wire` and `benchmarks.delegations` show it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

import psutil

from molecule_grpc.server.tasks import BackgroundTask

# How often it is looked where the loop runs.
_PERIOD_SECONDS = 0.05


class Affinity:
    """The poller's core and turn. Make it in the main thread, the loop's, when gRPC has started.

    The loop itself stays free, so that nothing starves when another process wants the same core,
    and what it starts is not bound either.
    """

    def __init__(self) -> None:
        threads = (thread for thread in threading.enumerate() if thread.daemon)
        self._pollers = [thread.native_id for thread in threads if thread.native_id is not None]
        self._process = psutil.Process()
        # Elsewhere there are no such calls; one core is shared already.
        self._useful = sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1
        self._core: int | None = None
        if self._useful:
            for poller in self._pollers:
                with _at_best():
                    os.sched_setscheduler(poller, os.SCHED_BATCH, os.sched_param(0))

    async def follow(self) -> None:
        """Move the poller to the core that ran the loop last."""
        if not self._useful or (core := self._process.cpu_num()) == self._core:
            return
        self._core = core
        for poller in self._pollers:
            with _at_best():
                os.sched_setaffinity(poller, {core})


def poller_affinity() -> BackgroundTask:
    """What a host runs beside itself, from when gRPC has started. Call it in the loop's thread."""
    return BackgroundTask("affinity", _PERIOD_SECONDS, Affinity().follow)


def _at_best() -> contextlib.AbstractContextManager[None]:
    """The thread may have ended, a sandbox forbid it, the core have been taken away."""
    return contextlib.suppress(OSError)
