"""Keeps gRPC's polling thread on the core of the event loop, wherever the scheduler moves that.

The poller hands the loop every event of a socket, four times a call, and then waits for the next.
On two cores each of them wakes the other core: a call costs a third more CPU, and a worker serves
a quarter fewer of them. `python -m benchmarks.wire` shows it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

import psutil

# How often the poller looks where the loop runs.
AFFINITY_SECONDS = 0.05


class Affinity:
    """The poller's core. Make it in the main thread, the loop's, when gRPC has started.

    The loop itself stays free, so that nothing starves when another process wants the same core,
    and what it starts is not bound either.
    """

    def __init__(self) -> None:
        self._pollers = [thread for thread in threading.enumerate() if thread.daemon]
        self._process = psutil.Process()
        # Elsewhere there is no such call; one core is shared already.
        self._useful = sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1
        self._core: int | None = None

    async def follow(self) -> None:
        """Move the poller to the core that ran the loop last."""
        if not self._useful or (core := self._process.cpu_num()) == self._core:
            return
        self._core = core
        for thread in self._pollers:
            if thread.native_id is not None:
                # It may have ended; a sandbox may forbid it; the core may have been taken away.
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(thread.native_id, {core})
