"""gRPC's framing of messages in an HTTP body: a flag, four bytes of length, the message."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from molecule_grpc.kernel.errors import Exhausted, MoleculeError, Unsupported
from molecule_grpc.kernel.sizes import MAX_REQUEST_BYTES

_PREFIX = 5
# For zlib: a gzip header is expected. Deflate in gRPC is zlib's own format.
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
# For `grpc-accept-encoding`.
ACCEPTED = b"identity, deflate, gzip"


class BrokenFrame(MoleculeError):
    """The body is not made of gRPC messages; INTERNAL, as every gRPC library says."""


def framed(message: bytes) -> bytes:
    """The message behind its prefix of five bytes, uncompressed."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


class FrameReader:
    """Cuts a body, which arrives in pieces of any length, into messages.

    Args:
        encoding: what the `grpc-encoding` header says: how marked messages are compressed.

    Raises:
        Unsupported: the encoding is not one of ACCEPTED.
    """

    __slots__ = ("_buffer", "_window_bits")

    def __init__(self, encoding: str = "identity") -> None:
        if encoding != "identity" and encoding not in _WINDOW_BITS:
            raise Unsupported(f"compression {encoding!r} is not served", reason="UNIMPLEMENTED")
        self._window_bits = _WINDOW_BITS.get(encoding)
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The messages that end in this piece.

        Raises:
            Exhausted: BODY_TOO_LARGE, as soon as a length is announced that exceeds 4 MiB.
            BrokenFrame: the piece cannot belong to a body of gRPC.
        """
        if not self._buffer and len(piece) >= _PREFIX and piece[0] == 0:
            # A unary request usually arrives as one piece: no copy into the buffer.
            size = int.from_bytes(piece[1:_PREFIX], "big")
            if size == len(piece) - _PREFIX and size <= MAX_REQUEST_BYTES:
                yield piece[_PREFIX:]
                return
        self._buffer += piece
        while len(self._buffer) >= _PREFIX:
            size = int.from_bytes(self._buffer[1:_PREFIX], "big")
            if size > MAX_REQUEST_BYTES:
                raise too_large()
            if len(self._buffer) < _PREFIX + size:
                return
            flag = self._buffer[0]
            message = bytes(memoryview(self._buffer)[_PREFIX : _PREFIX + size])
            del self._buffer[: _PREFIX + size]
            yield message if flag == 0 else self._inflated(flag, message)

    def end(self) -> None:
        """The body is complete.

        Raises:
            BrokenFrame: it ends within a message.
        """
        if self._buffer:
            raise BrokenFrame("the body ends within a message")

    def _inflated(self, flag: int, message: bytes) -> bytes:
        if flag != 1 or self._window_bits is None:
            raise BrokenFrame("a message is marked as compressed, and its compression is not named")
        if not message:
            return message
        inflater = zlib.decompressobj(self._window_bits)
        try:
            whole = inflater.decompress(message, MAX_REQUEST_BYTES + 1)
        except zlib.error as error:
            raise BrokenFrame("a compressed message cannot be read") from error
        if len(whole) > MAX_REQUEST_BYTES:
            raise too_large()
        if not inflater.eof:
            raise BrokenFrame("a compressed message ends too early")
        if inflater.unused_data:
            raise BrokenFrame("bytes follow a compressed message")
        return whole


def too_large() -> Exhausted:
    """How a message above the limit is refused."""
    return Exhausted(f"the body exceeds {MAX_REQUEST_BYTES} bytes", reason="BODY_TOO_LARGE")
