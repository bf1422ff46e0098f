"""One HTTP request that is a gRPC call: its headers, messages, deadline, and the answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import re
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

from molecule_grpc.kernel.errors import Exhausted, MoleculeError
from molecule_grpc.kernel.sizes import MAX_HEADER_BYTES
from molecule_grpc.server.call import Call
from molecule_grpc.server.hosts.envoy.framing import ACCEPTED, FrameReader, framed
from molecule_grpc.server.status import CallFailure, render, render_late

Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

# The edge adds some headers of its own to those of the client.
_MAX_METADATA_BYTES = MAX_HEADER_BYTES + 4 * 1024
# What gRPC itself says in headers is no metadata of the call.
_OF_GRPC = frozenset(
    (b"te", b"content-type", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"host")
)
_MAX_DRAINED_BYTES = 64 * 1024 * 1024
_MAX_DRAIN_SECONDS = 10.0
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
# What `grpc-message` may hold as it is: printable ASCII but the percent sign.
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")

_START: tuple[Header, ...] = (
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", ACCEPTED),
)
_OK: list[Header] = [(b"grpc-status", b"0")]


class Exchange:
    """A call of gRPC in an ASGI request.

    Args:
        scope: what ASGI tells of the request.
        receive: yields the pieces of its body.
        send: takes the pieces of the answer.
    """

    __slots__ = (
        "_encoding",
        "_receive",
        "_send",
        "_started",
        "_timeout",
        "arrived",
        "call",
        "ending",
        "ends_at",
        "left",
        "limited",
        "path",
    )

    def __init__(self, scope: Event, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._started = False
        # Whether the client has sent all that it will send.
        self.arrived = False
        # Whether the client has gone away.
        self.left = False
        # How the platform has ended the call, if it has.
        self.ending: CallFailure | None = None
        self.path: str = scope["path"]
        metadata, of_grpc = _headers(scope["headers"])
        # Envoy's router, which would add these, is not there.
        metadata["x-forwarded-host"] = of_grpc.get(b"host", "")
        metadata["x-forwarded-proto"] = scope["scheme"]
        self._encoding = of_grpc.get(b"grpc-encoding", "identity")
        self._timeout = of_grpc.get(b"grpc-timeout")
        # By the clock of `time.monotonic`; None when the call may last for ever.
        self.ends_at = _deadline(self._timeout)
        # Whether it is the platform, and not the client, that waits no longer.
        self.limited = False
        self.call = Call(metadata=metadata, remaining=self._remaining)

    def _remaining(self) -> float | None:
        return None if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())

    def require_fit(self) -> None:
        """Check the headers that every method shares: size and `grpc-timeout`.

        Raises:
            CallFailure: headers above 64 KiB, a malformed `grpc-timeout`, or one of less than 1 ms.
        """
        if self._timeout is not None:
            if self.ends_at is None:
                raise render(MoleculeError("Error parsing 'grpc-timeout' metadata"))
            if time.monotonic() >= self.ends_at:
                raise render_late()
        size = sum(len(name) + len(value) for name, value in self.call.metadata.items())
        if size > _MAX_METADATA_BYTES:
            raise render(Exhausted(f"the headers exceed {MAX_HEADER_BYTES} bytes"))

    def limit(self, seconds: float) -> None:
        """End the call after `seconds`, or at the client's own deadline if that is sooner."""
        end = time.monotonic() + seconds
        if self.ends_at is None or end < self.ends_at:
            self.ends_at, self.limited = end, True

    async def first(self) -> bytes | None:
        """The first message that the client sends; None when it sends none.

        Not `anext(messages())`: closing an unfinished generator costs a task for each unary call.

        Raises:
            MoleculeError: the body is not gRPC's, or too large.
            asyncio.CancelledError: the client has left.
        """
        reader = FrameReader(self._encoding)
        while not self.arrived:
            for message in reader.feed(await self._piece()):
                return message
        reader.end()
        return None

    async def messages(self) -> AsyncIterator[bytes]:
        """All messages that the client sends, as they arrive.

        Raises:
            MoleculeError: the body is not gRPC's, or too large.
            asyncio.CancelledError: the client has left.
        """
        reader = FrameReader(self._encoding)
        while not self.arrived:
            for message in reader.feed(await self._piece()):
                yield message
        reader.end()

    async def drain(self) -> None:
        """Read the rest of the body: an HTTP/1.1 client reads the answer after that.

        A client that sends more than 64 MiB, or for longer than 10 s, loses connection and answer.
        """
        left = _MAX_DRAINED_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MAX_DRAIN_SECONDS):
                while not self.arrived and left > 0:
                    left -= len(await self._piece())

    async def rest(self) -> None:
        """Read the body to its end, for nothing.

        Raises:
            asyncio.CancelledError: the client has left.
        """
        while not self.arrived:
            await self._piece()

    async def _piece(self) -> bytes:
        event = await self._receive()
        if event["type"] != "http.request":
            self.left = True
            raise asyncio.CancelledError("the client has left")
        self.arrived = not event["more_body"]
        piece: bytes = event["body"]
        return piece

    async def look(self) -> None:
        """Find out whether the client has left, once it has sent all."""
        event = await self._receive()
        self.left = event["type"] != "http.request"

    async def answer(self, message: bytes) -> None:
        """Answer with one message, and success."""
        send = self._send
        await send(self._start())
        await send({"type": "http.response.body", "body": framed(message)})
        await send({"type": "http.response.trailers", "headers": _OK})

    async def write(self, message: bytes) -> None:
        """Send one message of several. Returns when Envoy has taken it.

        Raises:
            asyncio.CancelledError: the client has left.
        """
        if not self._started:
            self._started = True
            await self._send(self._start())
        try:
            await self._send(
                {"type": "http.response.body", "body": framed(message), "more_body": True}
            )
        except OSError as error:
            self.left = True
            raise asyncio.CancelledError("the client has left") from error

    async def end(self) -> None:
        """End a stream of messages with success."""
        if not self._started:
            await self._send(self._start())
        await self._finish(_OK)

    async def refuse(self, failure: CallFailure) -> None:
        """End the call with an error, after the messages that were sent, if any."""
        trailers = [(b"grpc-status", b"%d" % failure.code), *_message(failure.message)]
        trailers += _encoded(failure.trailers(rest=self.call.rest))
        if self._started:
            await self._finish(trailers)
            return
        headers = [(b"content-type", b"application/grpc"), *trailers]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body"})

    async def _finish(self, trailers: list[Header]) -> None:
        await self._send({"type": "http.response.body"})
        await self._send({"type": "http.response.trailers", "headers": trailers})

    def _start(self) -> dict[str, Any]:
        headers = [*_START, *_encoded(self.call.headers.items())]
        return {"type": "http.response.start", "status": 200, "headers": headers, "trailers": True}


def _headers(headers: Iterable[Header]) -> tuple[dict[str, str], dict[bytes, str]]:
    """The metadata of a call, and what its headers say to gRPC itself."""
    metadata: dict[str, str] = {}
    of_grpc: dict[bytes, str] = {}
    for name, value in headers:
        if name in _OF_GRPC:
            of_grpc[name] = value.decode("latin-1")
        else:
            metadata[name.decode("latin-1")] = _text(value)
    return metadata, of_grpc


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _deadline(timeout: str | None) -> float | None:
    if timeout is None:
        return None
    found = _TIMEOUT.fullmatch(timeout)
    if found is None:
        return None
    seconds = int(found[1]) * _UNIT_SECONDS[found[2]]
    # Who waits less than a millisecond has given up by now.
    return time.monotonic() + seconds if seconds >= 1e-3 else -math.inf


def _message(text: str) -> list[Header]:
    return [(b"grpc-message", urllib.parse.quote(text, safe=_PLAIN).encode())] if text else []


def _encoded(headers: Iterable[tuple[str, str | bytes]]) -> list[Header]:
    """Metadata as it travels: bytes of a `-bin` header in base64."""
    return [
        (
            name.encode(),
            base64.b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode(),
        )
        for name, value in headers
    ]
