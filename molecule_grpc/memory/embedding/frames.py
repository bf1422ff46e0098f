"""Frames between workers and the embedder process: a JSON header, and a body of float32 numbers.

A frame is two lengths of four bytes, then the header, then the body. Both ends are of one version:
the fleet starts them together.
"""

from __future__ import annotations

import array
import asyncio
import json
import struct
from collections.abc import Sequence
from typing import Any, Final

_LENGTHS: Final = struct.Struct("!II")
_MOST_BYTES: Final = 64 * 1024 * 1024


class FrameError(ConnectionError):
    """The other end sent bytes that are no frame."""


async def read_frame(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """The next header and body.

    Raises:
        FrameError: the header is no JSON object, or header and body exceed 64 MiB.
        asyncio.IncompleteReadError: the connection has ended.
    """
    header, body = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    if header + body > _MOST_BYTES:
        raise FrameError(f"a frame of {header + body} bytes")
    try:
        parsed = json.loads(await reader.readexactly(header))
    except ValueError as error:
        raise FrameError("a header that is no JSON") from error
    if not isinstance(parsed, dict):
        raise FrameError("a header that is no object")
    return parsed, await reader.readexactly(body)


def frame(header: dict[str, Any], body: bytes = b"") -> bytes:
    """A frame, ready to be sent."""
    spoken = json.dumps(header, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(spoken), len(body)) + spoken + body


def vectors_of(body: bytes, dimensions: int) -> list[Sequence[float]]:
    """The vectors of a body. Raises FrameError for a body that is cut off."""
    if dimensions < 1 or len(body) % (4 * dimensions):
        raise FrameError("a vector that is cut off")
    floats = array.array("f", body)
    return [floats[at : at + dimensions] for at in range(0, len(floats), dimensions)]
