"""When the garbage collector may stop the process, and for how long.

With a thousand streams open, a collection of everything stopped it for 100 ms, every few seconds.
"""

from __future__ import annotations

import gc

# The young are looked at automatically, and often: whatever is in flight is looked at too, and at
# ten thousand that stopped a busy worker for 10 ms. The rest is left to a task.
_YOUNG, _NEVER = 700, 1_000_000

MEMORY_SECONDS = 300.0


def settle_memory() -> None:
    """What is loaded by now lives for ever: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _NEVER, _NEVER)


async def collect_garbage() -> None:
    """Look at everything that was made since: 30 ms for a thousand open streams."""
    gc.collect()
