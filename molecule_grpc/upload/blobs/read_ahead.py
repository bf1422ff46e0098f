"""Fetches one piece ahead, so that a store and a client do not wait for each other in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator


async def read_ahead(pieces: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """The same pieces; while the caller uses one, the next is fetched."""
    coming = asyncio.create_task(anext(pieces, None))
    try:
        while (piece := await coming) is not None:
            coming = asyncio.create_task(anext(pieces, None))
            yield piece
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await pieces.aclose()
