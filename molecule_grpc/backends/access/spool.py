"""Content of a file that has arrived as a whole, on disk above 1 MiB, before anybody is asked."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import IO, Final

_IN_MEMORY: Final = 1024 * 1024
_PIECE: Final = 256 * 1024


class Spool:
    """Bytes in a file that has no name and ends with its use."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0

    async def append(self, piece: bytes) -> None:
        """Add bytes at the end."""
        self.size += len(piece)
        if self.size <= _IN_MEMORY:
            self._file.write(piece)
        else:
            await asyncio.to_thread(self._file.write, piece)

    async def pieces(self) -> AsyncIterator[bytes]:
        """All bytes, from the beginning."""
        self._file.seek(0)
        while piece := await asyncio.to_thread(self._file.read, _PIECE):
            yield piece


@contextlib.contextmanager
def new_spool() -> Iterator[Spool]:
    """An empty one, while inside."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        yield Spool(file)
