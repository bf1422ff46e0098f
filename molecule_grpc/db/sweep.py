"""Sweeps: a step that handles a bounded batch, repeated until there is less than a batch left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import structlog

log = structlog.get_logger(__name__)

# For the background task that sweeps: a day, because a sweep ends when nothing is due. A statement
# that hangs is ended by its own timeout.
SWEEP_TIMEOUT_SECONDS = 86_400.0

_LEAST_BATCH = 10


async def in_batches(
    name: str, step: Callable[[int], Awaitable[int]], *, batch: int, pause: float = 0.0
) -> int:
    """Repeat a step until it handles less than a batch; how much all of them handled.

    A step that exceeds its statement timeout is repeated with half the batch, down to 10 rows:
    it changed nothing, and a smaller one has a chance. Any number of workers may sweep at once
    when the step skips what others have locked.

    Args:
        name: for the log.
        step: handles at most so many rows, in a transaction of its own; returns how many it did.
        batch: most rows of one step.
        pause: seconds between two steps.
    """
    handled = 0
    while True:
        try:
            done = await step(batch)
        except (asyncpg.QueryCanceledError, TimeoutError):
            if batch <= _LEAST_BATCH:
                raise
            batch = max(_LEAST_BATCH, batch // 2)
            log.warning("a sweep is too slow, its batches shrink", sweep=name, batch=batch)
            continue
        handled += done
        if done < batch:
            return handled
        await asyncio.sleep(pause)
