"""Pages that are no RPCs: /healthz for load balancers, /metrics for Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from molecule_grpc.server.hosts.envoy.exchange import Event, Send
from molecule_grpc.server.hosts.health import Health

Page = Callable[[Event, Send], Awaitable[None]]


def healthz(health: Health) -> Page:
    """200 while calls are served here, else 503."""

    async def page(_: Event, send: Send) -> None:
        if health.serving:
            await _answer(send, 200, b'{"status":"ok"}')
        else:
            await _answer(
                send,
                503,
                b'{"code":"platform_unavailable","error":"the platform is not available"}',
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
        text = await _fetched(port)
        await _answer(send, 200, text, CONTENT_TYPE_LATEST.encode())

    return page


async def _fetched(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        answer = await reader.read()
    return answer.partition(b"\r\n\r\n")[2]


async def not_found(_: Event, send: Send) -> None:
    """What is served nowhere."""
    await _answer(send, 404, b'{"error":"not found"}')


async def _answer(
    send: Send, status: int, body: bytes, content_type: bytes = b"application/json"
) -> None:
    headers = [(b"content-type", content_type)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
