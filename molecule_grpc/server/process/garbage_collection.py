"""When the garbage collector may stop the process, and for how long.

With a thousand streams open, a collection of everything stopped it for 100 ms, every few seconds.
"""

from __future__ import annotations

import gc

# The collector counts what is made less what is freed: a worker in balance never reaches the
# threshold, while its young pile up. 26,000 were found when the rows of one statement tipped it
# over, and looking at them stopped the worker for 10 ms. A task looks at them before they are many.
_YOUNG, _NEVER = 700, 1_000_000

YOUNG_MEMORY_SECONDS = 0.1
MEMORY_SECONDS = 300.0


def settle_memory() -> None:
    """What is loaded by now lives for ever: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _NEVER, _NEVER)


async def collect_young() -> None:
    """Look at what was made since the last time: under a millisecond."""
    gc.collect(0)


async def collect_garbage() -> None:
    """Look at everything that was made since: 30 ms for a thousand open streams."""
    gc.collect()
