"""HTTP/2 as frames: a client that reads as slowly as a test says, and sees a call's end."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from tests.connections import connected

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = struct.Struct(">HBBBI")  # length in two parts, type, flags, stream
_KINDS = ("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY")
_DATA, _HEADERS, _RESET, _SETTINGS, _WINDOW_UPDATE = 0, 1, 3, 4, 8
_END_STREAM, _END_HEADERS = 0x1, 0x4
_STREAM = 1
_LARGE_WINDOW = 1 << 30


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of the call's stream.

    Args:
        ends: whether it ends the answer.
        code: why the stream is reset, of RST_STREAM.
    """

    kind: str
    size: int
    ends: bool = False
    code: int = 0


class Http2Call:
    """A POST whose body stays open. The client's window is 65,535 bytes until `allow`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Open the stream, with no window of the connection in its way."""
        given = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", **headers}
        head = b"".join(map(_literal, given.keys(), given.values()))
        self._writer.write(
            _PREFACE
            + _frame(_SETTINGS, 0, 0)
            + _frame(_WINDOW_UPDATE, 0, 0, _LARGE_WINDOW.to_bytes(4, "big"))
            + _frame(_HEADERS, _END_HEADERS, _STREAM, head)
            + _frame(_DATA, 0, _STREAM, body)
        )

    def allow(self, size: int) -> None:
        """Let the server send so many bytes more."""
        self._writer.write(_frame(_WINDOW_UPDATE, 0, _STREAM, size.to_bytes(4, "big")))

    async def frame(self) -> Frame:
        """The next frame of the stream."""
        while True:
            high, low, kind, flags, stream = _HEAD.unpack(await self._reader.readexactly(9))
            payload = await self._reader.readexactly((high << 8) + low)
            if stream == _STREAM and kind < len(_KINDS):
                code = int.from_bytes(payload, "big") if kind == _RESET else 0
                ends = kind in (_DATA, _HEADERS) and bool(flags & _END_STREAM)
                return Frame(_KINDS[kind], len(payload), ends, code)

    async def rest(self) -> list[Frame]:
        """Read to the reset, and allow as much as was read, as clients do."""
        frames = [await self.frame()]
        while frames[-1].kind != "RST_STREAM":
            if frames[-1].kind == "DATA" and frames[-1].size:
                self.allow(frames[-1].size)
            frames.append(await self.frame())
        return frames


@contextlib.asynccontextmanager
async def http2_call(
    port: int, path: str, headers: Mapping[str, str], body: bytes
) -> AsyncIterator[Http2Call]:
    """Make a call on a connection of its own, which is closed at the end of the block."""
    async with connected(port) as (reader, writer):
        call = Http2Call(reader, writer)
        call.send(path, headers, body)
        yield call


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header as HPACK writes it without a table, of less than 127 bytes in each part."""
    parts = name.encode(), value.encode()
    assert max(map(len, parts)) < 127
    return b"\x10" + b"".join(bytes([len(part)]) + part for part in parts)
