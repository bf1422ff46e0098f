"""What an agent printed, with positions that hold although the engine throws old lines away."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from molecule_grpc.backends.contract.entering import LogChunk
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.stamps import NANOSECONDS, position_of
from molecule_grpc.backends.tails import TAIL_LINES, tail_of

_HEADER: Final = struct.Struct(">BxxxL")


async def read_logs(
    engine: Engine, container_id: str, *, since: int, follow: bool, tail: int
) -> AsyncGenerator[LogChunk, None]:
    """Lines with positions: the nanoseconds of the engine's time stamp, since 1970.

    An empty chunk comes first, as soon as the engine has answered.
    """
    query = {
        "stdout": True,
        "stderr": True,
        "timestamps": True,
        "follow": follow,
        "tail": str(tail) if tail else "all",
        # The engine includes a line of that very moment.
        "since": f"{(since + 1) // NANOSECONDS}.{(since + 1) % NANOSECONDS:09}" if since else "0",
    }
    path = f"containers/{container_id}/logs"
    async with (
        engine.request("GET", path, params=query, lasting=True) as answer,
        contextlib.aclosing(frames_of(engine.bytes(answer))) as frames,
    ):
        yield LogChunk(since, b"")
        async for frame in frames:
            stamp, _, data = frame.partition(b" ")
            if (position := position_of(stamp.decode())) > since:
                yield LogChunk(position, data)


async def last_output(engine: Engine, container_id: str) -> str:
    """The end of what an agent printed, for people; empty if the engine does not tell."""
    logs = read_logs(engine, container_id, since=0, follow=False, tail=TAIL_LINES)
    async with contextlib.aclosing(logs) as chunks:
        return await tail_of(chunks)


async def frames_of(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """One frame of the engine is one line, of standard output or error."""
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        while len(buffer) >= _HEADER.size:
            _, length = _HEADER.unpack_from(buffer)
            if len(buffer) < _HEADER.size + length:
                break
            yield bytes(buffer[_HEADER.size : _HEADER.size + length])
            del buffer[: _HEADER.size + length]
