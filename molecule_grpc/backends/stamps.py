"""Time stamps that engines put before lines of output, as positions in that output."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

NANOSECONDS: Final = 1_000_000_000


def position_of(stamp: str) -> int:
    """Nanoseconds since 1970 of `2026-01-02T03:04:05.123456789Z`."""
    head, _, fraction = stamp.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(head).replace(tzinfo=UTC).timestamp())
    return seconds * NANOSECONDS + int(f"{fraction:0<9}"[:9])
