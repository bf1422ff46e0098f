"""Room on the disk of the embedded Postgres: writes are refused before Postgres runs out of it.

Postgres that cannot write its log stops, and with it everything that could be read.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from molecule_grpc.kernel.errors import Unavailable

log = structlog.get_logger(__name__)

_RETRY_SECONDS: Final = 5.0
# Service comes back at a tenth above the mark, so that it does not flutter around the mark.
_BACK: Final = 1.1
_MIB: Final = 1024 * 1024

_FREE = Gauge(
    "molecule_disk_free_bytes",
    "What is free on the disk of the embedded Postgres.",
    multiprocess_mode="mostrecent",
)
_REFUSED = Counter("molecule_disk_refused_total", "Calls refused because the disk is nearly full.")


class DiskSpace:
    """Looks at the disk when told to, and remembers whether there is room for writes.

    Args:
        place: a directory on the disk; None where the database is not on this machine's disk, or
            not ours: then there is always room.
        low_bytes: with less free than this there is no room; 0 means that there always is.
    """

    def __init__(self, place: Path | None, low_bytes: int) -> None:
        self._place = place
        self._low_bytes = low_bytes
        self._low = False

    async def look(self) -> None:
        """Look now. Raises OSError: the directory cannot be looked at."""
        if self._place is None:
            return
        free = (await asyncio.to_thread(shutil.disk_usage, self._place)).free
        _FREE.set(free)
        low = free < self._low_bytes * (_BACK if self._low else 1)
        if low != self._low:
            report = log.error if low else log.info
            report(
                "disk is nearly full, writes are refused" if low else "disk has room again",
                place=str(self._place),
                free_mib=free // _MIB,
                low_mib=self._low_bytes // _MIB,
            )
        self._low = low

    def require_room(self) -> None:
        """Raise `Unavailable`, DISK_LOW, while there is no room for what a call would store."""
        if self._low:
            _REFUSED.inc()
            raise disk_low()


def disk_low() -> Unavailable:
    """The refusal of a call that would store something."""
    return Unavailable(
        "the platform's disk is nearly full: nothing can be stored until its operator frees space",
        reason="DISK_LOW",
        retry_after=_RETRY_SECONDS,
    )
