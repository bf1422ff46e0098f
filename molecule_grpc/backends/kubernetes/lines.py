"""Lines of an answer that comes bit by bit, none of which may be longer than what is held."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp

_READ_BYTES = 64 * 1024


async def pieces_of_lines(answer: aiohttp.StreamReader, most: int) -> AsyncIterator[bytes]:
    """Each line with its line feed. A line of more than `most` bytes comes in pieces.

    Pieces but a line's last, and the last line of an answer that was cut off, have no line feed.
    """
    held = bytearray()
    while read := await answer.read(_READ_BYTES):
        # What was held before has no line feed.
        seen = len(held)
        held += read
        while (end := held.find(b"\n", seen, most) + 1) or len(held) >= most:
            size = end or most
            yield bytes(held[:size])
            del held[:size]
            seen = 0
    if held:
        yield bytes(held)
