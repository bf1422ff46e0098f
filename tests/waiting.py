"""How tests wait: for an event, as long as a starved machine may take."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

# Seconds. A wait ends with its event, so a large number slows no test that passes: with ten
# programs a core, the start of a server takes 40 s. Below the 300 s of a test, so that a failed
# wait says itself what it waited for.
PATIENCE = 120.0


async def until(
    look: Callable[[], Awaitable[T]],
    wanted: Callable[[T], bool],
    *,
    timeout: float = PATIENCE,
    pause: float = 0.02,
) -> T:
    """Call `look` every `pause` seconds until its answer is `wanted`; that answer.

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


@contextlib.contextmanager
def at_most_a_second() -> Iterator[None]:
    """Fail if the body uses more than a second of the processor, however long it waits for one."""
    began = time.thread_time()
    yield
    used = time.thread_time() - began
    assert used < 1.0, f"{used:.1f} s of the processor"
