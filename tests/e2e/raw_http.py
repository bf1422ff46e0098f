"""HTTP as bytes: any body on any path, over HTTP/2 or HTTP/1.1, with everything that comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import pyqwest

from tests.waiting import PATIENCE

# Response headers that differ between two answers to the same request. Envoy closes a connection of
# HTTP/1.1 after an answer that ended before the request was read: which is first is chance where a
# call ends without its body's last chunk.
_VOLATILE = frozenset(
    ("date", "x-request-id", "x-envoy-upstream-healthchecked-cluster", "connection")
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Args:
        pause: seconds between two pieces of the body.
        open_end: leave the body open after its last piece.
    """

    path: str
    body: tuple[bytes, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    verb: str = "POST"
    http1: bool = False
    pause: float = 0.0
    open_end: bool = False


@dataclass(slots=True)
class Heard:
    """An answer, as far as it came.

    Args:
        error: how the stream broke off; empty when it ended well.
    """

    status: int = 0
    headers: dict[str, list[str]] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, list[str]] = field(default_factory=dict)
    error: str = ""

    @property
    def grpc_status(self) -> str:
        """`grpc-status`, from wherever it stands; empty without one."""
        for given in (self.trailers, self.headers):
            if "grpc-status" in given:
                return given["grpc-status"][0]
        return ""


def _all(headers: pyqwest.Headers) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers.items():
        # An empty `grpc-message` says what none says.
        if name not in _VOLATILE and (name, value) != ("grpc-message", ""):
            found.setdefault(name, []).append(value)
    return found


class RawClient:
    """Calls one server. Each client has connections of its own."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._two = _transport(pyqwest.HTTPVersion.HTTP2)
        self._one = _transport(pyqwest.HTTPVersion.HTTP1)

    async def close(self) -> None:
        """Close the connections."""
        await self._two.aclose()
        await self._one.aclose()

    async def ask(self, asked: Asked, headers: Mapping[str, str]) -> Heard:
        """Send a request and hear the whole answer."""
        heard = Heard()
        request = self._request(asked, headers)
        transport = self._one if asked.http1 else self._two
        try:
            async with asyncio.timeout(PATIENCE):
                async with await transport.execute(request) as response:
                    heard.status = response.status
                    heard.headers = _all(response.headers)
                    async for piece in response.content:
                        heard.body += bytes(piece)
                    heard.trailers = _all(response.trailers)
        except (pyqwest.RemoteProtocolError, pyqwest.ReadError, pyqwest.WriteError) as error:
            heard.error = f"{type(error).__name__} {getattr(error, 'code', '')!s}"
        return heard

    @contextlib.asynccontextmanager
    async def opened(
        self, asked: Asked, headers: Mapping[str, str]
    ) -> AsyncIterator[pyqwest.Response]:
        """Send a request, and hang up at the end of the block."""
        async with await self._two.execute(self._request(asked, headers)) as response:
            yield response

    def _request(self, asked: Asked, headers: Mapping[str, str]) -> pyqwest.Request:
        given = pyqwest.Headers([*headers.items(), *asked.headers])
        content = None if asked.verb in ("GET", "HEAD") else _body(asked)
        return pyqwest.Request(asked.verb, self._url + asked.path, given, content)


def _transport(version: pyqwest.HTTPVersion) -> pyqwest.HTTPTransport:
    return pyqwest.HTTPTransport(
        http_version=version,
        follow_redirects=False,
        enable_gzip=False,
        enable_brotli=False,
        enable_zstd=False,
    )


async def _body(asked: Asked) -> AsyncIterator[bytes]:
    for number, piece in enumerate(asked.body):
        if number:
            await asyncio.sleep(asked.pause)
        yield piece
    if asked.open_end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(PATIENCE)
