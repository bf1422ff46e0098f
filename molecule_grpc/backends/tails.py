"""The end of what an agent printed, for the reason of its failure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from molecule_grpc.backends.contract.entering import LogChunk

# What is asked of an engine, and what of the answer is kept.
TAIL_LINES: Final = 40
TAIL_BYTES: Final = 2048


async def tail_of(chunks: AsyncIterator[LogChunk]) -> str:
    """The last 2 KiB of a log as text without NUL; no more than 2 KiB and a chunk are held."""
    kept = b""
    async for chunk in chunks:
        kept = (kept + chunk.data)[-TAIL_BYTES:]
    return kept.decode(errors="replace").replace("\0", "")
