"""Which calls the host ends by itself: those without a client, and those that are late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from molecule_grpc.server.hosts.envoy import open_calls
from molecule_grpc.server.hosts.envoy.exchange import Event, Exchange
from molecule_grpc.server.hosts.envoy.open_calls import OpenCalls
from molecule_grpc.server.status import Code
from tests.waiting import PATIENCE

DISCONNECT = {"type": "http.disconnect"}


class Client:
    """The other end of a request: it sends pieces of a body, and may leave."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.left = asyncio.Event()

    def send(self, *, more: bool) -> None:
        self.events.put_nowait({"type": "http.request", "body": b"x", "more_body": more})

    def leave(self) -> None:
        self.left.set()
        self.events.put_nowait(DISCONNECT)

    async def receive(self) -> Event:
        """As Envoy's module has it: after the end of the body it returns at once."""
        if self.exchange.arrived:
            none: Event = {"type": "http.request", "body": b"", "more_body": False}
            return DISCONNECT if self.left.is_set() else none
        return await self.events.get()

    def asks(self, *headers: tuple[bytes, bytes]) -> Exchange:
        async def sink(_: dict[str, object]) -> None:
            pass

        scope = {"headers": headers, "scheme": "http", "path": "/a.B/C"}
        self.exchange = Exchange(scope, self.receive, sink)
        return self.exchange


@pytest.fixture
async def calls(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenCalls]:
    """Open calls that are looked after often."""
    monkeypatch.setattr(open_calls, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(open_calls, "_FIRST_LOOK_SECONDS", 0.02)
    made = OpenCalls()
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()


async def cancelled(calls: OpenCalls, exchange: Exchange, *, heard_out: bool = False) -> None:
    """Serve a call for ever; return when it is cancelled."""

    async def serve() -> None:
        with calls.open(exchange):
            if not heard_out:
                await asyncio.Event().wait()
            with calls.heard_out(exchange):
                await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(serve())


async def test_client_that_leaves_after_its_body(calls: OpenCalls) -> None:
    client = Client()
    exchange = client.asks()
    exchange.arrived = True
    client.leave()
    await cancelled(calls, exchange)
    assert exchange.left
    assert exchange.ending is None


async def test_client_that_leaves_before_the_end_of_its_body(calls: OpenCalls) -> None:
    client = Client()
    exchange = client.asks()
    client.send(more=True)
    client.leave()
    await cancelled(calls, exchange, heard_out=True)
    assert exchange.left


async def test_late_end_of_a_body_is_no_departure(calls: OpenCalls) -> None:
    client = Client()
    exchange = client.asks(((b"grpc-timeout"), b"200m"))
    client.send(more=False)
    await cancelled(calls, exchange, heard_out=True)
    assert exchange.arrived
    assert not exchange.left


@pytest.mark.parametrize(
    ("own", "code"), [(True, Code.DEADLINE_EXCEEDED), (False, Code.UNAVAILABLE)]
)
async def test_late_call(calls: OpenCalls, own: bool, code: Code) -> None:
    """By the client's own limit, or by the platform's."""
    exchange = Client().asks(*([(b"grpc-timeout", b"30m")] if own else []))
    if not own:
        exchange.limit(0.03)
    await cancelled(calls, exchange)
    assert exchange.ending is not None
    assert exchange.ending.code is code


async def test_late_call_is_cancelled_once(calls: OpenCalls) -> None:
    """A late call is cancelled once, so that cleanup in its handler may await."""
    exchange = Client().asks((b"grpc-timeout", b"30m"))

    async def serve() -> str:
        with calls.open(exchange):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.1)
                return "cleaned up"
        raise AssertionError

    assert await asyncio.create_task(serve()) == "cleaned up"
    assert len(calls) == 0


async def test_drain_waits_for_calls_then_ends_them(calls: OpenCalls) -> None:
    exchange = Client().asks()
    serving = asyncio.create_task(cancelled(calls, exchange))
    while not len(calls):
        await asyncio.sleep(0)
    ended = asyncio.create_task(calls.ended())
    await asyncio.sleep(0)
    assert not ended.done()
    calls.cancel()
    await serving
    async with asyncio.timeout(PATIENCE):
        await ended
    assert exchange.ending is not None
    assert exchange.ending.reason == "DRAINING"
