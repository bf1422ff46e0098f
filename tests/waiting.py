"""How tests wait: for an event, as long as a starved machine may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

# Seconds. Nothing here depends on the number: what must come ends the wait when it comes. It lies
# below the 60 s that a test may last, so that the test itself says what it waited for.
PATIENCE = 45.0


async def until(
    look: Callable[[], Awaitable[T]],
    wanted: Callable[[T], bool],
    *,
    timeout: float = PATIENCE,
    pause: float = 0.02,
) -> T:
    """What was seen when it was as wanted; looks every `pause` seconds.

    Raises AssertionError, with what was seen last, after `timeout` seconds.
    """
    seen: list[T] = []
    try:
        async with asyncio.timeout(timeout):
            while True:
                seen[:] = [await look()]
                if wanted(seen[0]):
                    return seen[0]
                await asyncio.sleep(pause)
    except TimeoutError:
        raise AssertionError(f"still not as wanted after {timeout} s: {seen}") from None
