"""What an engine gives, read ahead of a client that takes its time, within a bound."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Generic, TypeVar

from molecule_grpc.backends.access import refusals
from molecule_grpc.backends.access.targets import closing

T = TypeVar("T")

AHEAD_BYTES: Final = 256 * 1024


class Ahead(Generic[T]):
    """A queue of at most 256 KiB and one more part: then the engine is not read any further.

    Args:
        size: bytes of a part; one without bytes is not kept.
        wake: there is more to take, or an end.
    """

    def __init__(self, size: Callable[[T], int], wake: Callable[[], None]) -> None:
        # The engine has given a part, or the end.
        self.opened = False
        self.ended = False
        self._size = size
        self._wake = wake
        self._parts: deque[T] = deque()
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._error: Exception | None = None

    async def fill(self, source: AsyncIterator[T]) -> None:
        """Read the source to its end. What ends it is raised by `pop`, after the last part."""
        try:
            with refusals.translated():
                async with closing(source) as parts:
                    async for part in parts:
                        await self._put(part)
        except Exception as error:  # noqa: BLE001  (the client's stream ends with this error)
            self._error = error
        self.opened = self.ended = True
        self._wake()

    async def _put(self, part: T) -> None:
        self.opened = True
        if size := self._size(part):
            self._parts.append(part)
            self._bytes += size
        self._wake()
        if self._bytes >= AHEAD_BYTES:
            self._room.clear()
            await self._room.wait()

    def pop(self) -> T | None:
        """The next part; None when nothing was read that is not taken yet.

        Raises:
            MoleculeError: the reading ended with an error, and all before it is taken.
        """
        if not self._parts:
            if self._error is not None:
                raise self._error
            return None
        part = self._parts.popleft()
        self._bytes -= self._size(part)
        if self._bytes < AHEAD_BYTES:
            self._room.set()
        return part

    @property
    def waiting(self) -> bool:
        """Whether a part waits to be taken."""
        return bool(self._parts)

    @property
    def over(self) -> bool:
        """Whether the source has ended and all of it is taken."""
        return self.ended and not self._parts
