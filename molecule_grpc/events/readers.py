"""Whether any client of any worker reads the feed of events now."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from molecule_grpc.db.wakeups import Flag, Wakeups
from molecule_grpc.events.store import CHANNEL_READERS

# A worker with readers announces them every 10 s; the others believe an announcement for 30 s.
ANNOUNCE_SECONDS = 10.0
_BELIEVED_SECONDS = 30.0


class EventReaders:
    """Counts this worker's readers, and hears the announcements of the other workers."""

    def __init__(self, wakeups: Wakeups, flag: Flag, clock: Callable[[], float]) -> None:
        self._wakeups = wakeups
        self._flag = flag
        self._clock = clock
        self._readers = 0
        self._believed_until = 0.0

    @classmethod
    @contextlib.contextmanager
    def of(
        cls, wakeups: Wakeups, clock: Callable[[], float] = time.monotonic
    ) -> Iterator[EventReaders]:
        """One that hears announcements while inside."""
        with wakeups.watch(CHANNEL_READERS) as flag:
            yield cls(wakeups, flag, clock)

    @contextlib.contextmanager
    def attend(self) -> Iterator[None]:
        """Count one reader of this worker, while inside."""
        self._readers += 1
        self._wakeups.announce([CHANNEL_READERS])
        try:
            yield
        finally:
            self._readers -= 1

    async def announce_readers(self) -> None:
        """Announce this worker's readers, if it has any, to the other workers."""
        if self._readers:
            self._wakeups.announce([CHANNEL_READERS])

    @property
    def present(self) -> bool:
        """Whether there may be a reader. True for the first 30 s: nothing was heard before."""
        now = self._clock()
        if self._flag.raised:
            self._flag.clear()
            self._believed_until = now + _BELIEVED_SECONDS
        return self._readers > 0 or now < self._believed_until
