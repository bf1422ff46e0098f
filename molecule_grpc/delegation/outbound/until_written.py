"""Writing an agent's answer down, however long what is in the way takes to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog

from molecule_grpc.db.pool import Fault, fault
from molecule_grpc.kernel.errors import Exhausted

log = structlog.get_logger(__name__)

T = TypeVar("T")

_GIVE_UP_SECONDS = 300.0
_FIRST_PAUSE_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 5.0


async def until_written(write: Callable[[], Awaitable[T]], name: str) -> T:
    """Call `write` until it succeeds, for up to five minutes; its result.

    An outage, a lost race (deadlock) and a full queue of writes pass. What doesn't, and the last
    error after five minutes, is raised.

    Args:
        name: what is written, for the log.
    """
    give_up = time.monotonic() + _GIVE_UP_SECONDS
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await write()
        except Exception as error:
            if not passes(error) or time.monotonic() > give_up:
                raise
            log.warning("an answer is written again", of=name, error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)


def passes(error: Exception) -> bool:
    """Whether the same write can succeed later. An existing row counts as written."""
    if isinstance(error, asyncpg.UniqueViolationError):
        return False
    return isinstance(error, Exhausted) or fault(error) is not Fault.STATEMENT
