"""How the host ends the stream of a client that does not read."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncGenerator

import pytest

from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.server.hosts import stream_writer
from molecule_grpc.server.hosts.stream_writer import StreamWriter
from molecule_grpc.server.status import CallFailure, render
from tests.settings import unread_of
from tests.waiting import PATIENCE


class Transport:
    """Takes a message when its client reads."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()

    async def write(self, data: bytes) -> None:
        await self.reads.wait()


class Handler:
    """Streams, and knows whether it has ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b""
        except MoleculeError as error:
            raise render(error) from error
        finally:
            self.ended.set()


async def opened(handler: Handler, transport: Transport, *, write_seconds: float) -> StreamWriter:
    """A writer after the handler's first message."""
    responses = handler.stream()
    await anext(responses)
    return StreamWriter(transport.write, responses, unread_of(), write_seconds, rpc="/a/B")


async def test_handler_ends_while_its_message_still_waits_for_the_client() -> None:
    handler, transport = Handler(), Transport()
    writer = await opened(handler, transport, write_seconds=0.05)
    writing = asyncio.create_task(writer.write(b"x"))
    async with asyncio.timeout(PATIENCE):
        await handler.ended.wait()
    assert not writing.done()
    transport.reads.set()
    with pytest.raises(CallFailure) as ended:
        await writing
    assert ended.value.reason == "SLOW_CONSUMER"


async def test_client_that_leaves_meanwhile_ends_the_write(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And nobody complains of an error that was not fetched."""
    handler = Handler()
    writer = await opened(handler, Transport(), write_seconds=0.05)
    writing = asyncio.create_task(writer.write(b"x"))
    await handler.ended.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    del writer
    assert "never retrieved" not in caplog.text


async def test_status_waits_until_the_edge_has_passed_on_what_was_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The edge resets a call whose status meets an exhausted window."""
    monkeypatch.setattr(stream_writer, "_SETTLE_SECONDS", 0.3)
    transport = Transport()
    writer = await opened(Handler(), transport, write_seconds=60)
    asyncio.get_running_loop().call_later(0.15, transport.reads.set)
    await writer.write(b"x")
    began = time.monotonic()
    await writer.settle()
    assert time.monotonic() - began > 0.2


async def test_client_that_was_given_up_gets_more_time_to_take_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_writer, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(stream_writer, "_LAST_SETTLE_SECONDS", 0.3)
    handler, transport = Handler(), Transport()
    writer = await opened(handler, transport, write_seconds=0.15)
    writing = asyncio.create_task(writer.write(b"x"))
    await handler.ended.wait()
    transport.reads.set()
    with pytest.raises(CallFailure):
        await writing
    began = time.monotonic()
    await writer.settle()
    assert time.monotonic() - began > 0.2


async def test_stream_that_never_waited_for_its_client_ends_at_once() -> None:
    transport = Transport()
    transport.reads.set()
    writer = await opened(Handler(), transport, write_seconds=60)
    await writer.write(b"x")
    began = time.monotonic()
    await writer.settle()
    assert time.monotonic() - began < 0.9


async def test_time_of_a_write_that_went_through_does_not_count_for_the_next_one() -> None:
    handler, transport = Handler(), Transport()
    writer = await opened(handler, transport, write_seconds=0.3)
    transport.reads.set()
    await writer.write(b"x")
    await asyncio.sleep(0.2)
    transport.reads.clear()
    began = time.monotonic()
    writing = asyncio.create_task(writer.write(b"x"))
    await handler.ended.wait()
    assert time.monotonic() - began > 0.25
    transport.reads.set()
    with pytest.raises(CallFailure):
        await writing


async def test_closed_writer_leaves_no_timer_behind() -> None:
    handler, transport = Handler(), Transport()
    transport.reads.set()
    writer = await opened(handler, transport, write_seconds=0.01)
    await writer.write(b"x")
    kept = weakref.ref(transport)  # The writer keeps its transport alive.
    writer.close()
    del writer, transport
    await asyncio.sleep(0)
    assert kept() is None
