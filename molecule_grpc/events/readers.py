"""Whether anybody reads the feed of events now, at whichever worker."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from molecule_grpc.db.wakeups import Flag, Wakeups
from molecule_grpc.events.store import CHANNEL_READERS

# A worker with readers says so this often, and is believed for so long.
ANNOUNCE_SECONDS = 10.0
_BELIEVED_SECONDS = 30.0


class EventReaders:
    """Knows it from this worker's readers, and from what the others say of theirs."""

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
        """An audience that listens while inside."""
        with wakeups.watch(CHANNEL_READERS) as flag:
            yield cls(wakeups, flag, clock)

    @contextlib.contextmanager
    def attend(self) -> Iterator[None]:
        """Somebody reads here, while inside."""
        self._readers += 1
        self._wakeups.announce([CHANNEL_READERS])
        try:
            yield
        finally:
            self._readers -= 1

    async def announce_readers(self) -> None:
        """Tell the other workers of our readers."""
        if self._readers:
            self._wakeups.announce([CHANNEL_READERS])

    @property
    def present(self) -> bool:
        """Whether somebody may read. In doubt somebody does."""
        now = self._clock()
        if self._flag.raised:
            self._flag.clear()
            self._believed_until = now + _BELIEVED_SECONDS
        return self._readers > 0 or now < self._believed_until
