"""A worker's sign of life: a file touched by the event loop, and how late the loop came to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prometheus_client import Histogram

_BEAT_SECONDS = 0.25
_LAG = Histogram(
    "molecule_event_loop_lag_seconds",
    "How late event loops of workers were, each asked four times a second.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


async def beat(file: Path) -> None:
    """Touch the file four times a second until cancelled, and measure how late that was."""
    loop = asyncio.get_running_loop()
    while True:
        file.touch()  # noqa: ASYNC240  (microseconds)
        due = loop.time() + _BEAT_SECONDS
        await asyncio.sleep(_BEAT_SECONDS)
        _LAG.observe(max(0.0, loop.time() - due))


def last_beat(file: Path) -> int:
    """When the file was last touched, in nanoseconds; 0 if never."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
