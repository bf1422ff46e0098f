"""Pages that are no RPCs: /healthz for load balancers, /metrics for Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import Awaitable, Callable

from molecule_grpc.server.hosts.envoy.exchange import Event, Send
from molecule_grpc.server.hosts.health import Health

Headers = list[tuple[bytes, bytes]]
_JSON: Headers = [(b"content-type", b"application/json")]
# Headers of the server of metrics that its reader sees.
_PASSED = frozenset((b"content-type", b"allow"))
Page = Callable[[Event, Send], Awaitable[None]]


def healthz(health: Health) -> Page:
    """200 while calls are served here, else 503."""

    async def page(_: Event, send: Send) -> None:
        if health.serving:
            await _answer(send, 200, b'{"status":"ok"}\n')
        else:
            await _answer(
                send,
                503,
                b'{"code":"platform_unavailable","error":"the platform is not available"}\n',
            )

    return page


def metrics(port: int, token: str) -> Page:
    """What `port` of the loopback interface serves, for whoever shows the token; empty for all."""
    shown = f"Bearer {token}".encode()

    async def page(scope: Event, send: Send) -> None:
        if token and not hmac.compare_digest(
            shown, dict(scope["headers"]).get(b"authorization", b"")
        ):
            await _answer(send, 401, b'{"error":"missing or wrong metrics token"}')
            return
        await _answer(send, *await _fetched(port, scope))

    return page


async def _fetched(port: int, scope: Event) -> tuple[int, bytes, Headers]:
    """Status, body and headers of the answer that this port gives to a request."""
    path = b"?".join(filter(None, (b"/metrics", scope["query_string"])))
    lines = [b"%b %b HTTP/1.0" % (scope["method"].encode(), path)]
    lines += [b"accept: " + value for name, value in scope["headers"] if name == b"accept"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(b"\r\n".join([*lines, b"", b""]))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    given = [field.split(b": ", 1) for field in fields]
    passed = [(name.lower(), value) for name, value in given if name.lower() in _PASSED]
    return int(status.split()[1]), body, passed


async def failed(send: Send, message: str) -> None:
    """An answer in the place of a page that broke, unless that has begun."""
    with contextlib.suppress(RuntimeError, OSError):
        await _answer(send, 500, json.dumps({"error": message}).encode())


async def not_found(_: Event, send: Send) -> None:
    """What is served nowhere."""
    await _answer(send, 404, b'{"error":"not found"}')


async def _answer(send: Send, status: int, body: bytes, headers: Headers = _JSON) -> None:
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
