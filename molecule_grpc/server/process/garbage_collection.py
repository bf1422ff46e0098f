"""When Python's garbage collector may stop the process, and for how long.

With a thousand streams open, a full collection takes 100 ms; left to itself, the collector runs one
every few seconds.
"""

from __future__ import annotations

import gc

from molecule_grpc.server.tasks import BackgroundTask

# The collector starts a young collection when allocations exceed frees by this many. A worker in
# balance never gets there, so young objects pile up: once 26,000 of them were collected in the
# midst of a call, for 10 ms. A task therefore collects them ten times a second, and another task
# looks after the older generations.
_YOUNG_THRESHOLD, _NEVER = 700, 1_000_000

_YOUNG_SECONDS = 0.1
_FULL_SECONDS = 300.0


def freeze_startup_objects() -> None:
    """Exempt everything loaded so far from collections: it lives as long as the process.

    Collections begin here where loading was without them.
    """
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_THRESHOLD, _NEVER, _NEVER)


async def collect_youngest_generation() -> None:
    """Collect what was made since the last time: under a millisecond."""
    gc.collect(0)


async def collect_all_generations() -> None:
    """Collect everything made since the start: 30 ms for a thousand open streams."""
    gc.collect()


def garbage_collection_tasks() -> list[BackgroundTask]:
    """Collections at times of the worker's choice."""
    return [
        BackgroundTask("gc-young", _YOUNG_SECONDS, collect_youngest_generation),
        BackgroundTask("gc-full", _FULL_SECONDS, collect_all_generations),
    ]
