"""A worker's sign of life: a file touched by the event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

_BEAT_SECONDS = 0.25


async def beat(file: Path) -> None:
    """Touch the file four times a second until cancelled."""
    while True:
        file.touch()  # noqa: ASYNC240  (microseconds)
        await asyncio.sleep(_BEAT_SECONDS)


def last_beat(file: Path) -> int:
    """When the file was last touched, in nanoseconds; 0 if never."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
