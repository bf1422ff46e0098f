"""What a client hears of a call that the server ends while a request is being written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from molecule_grpc.client.errors import LIBRARY_FAILED, Unavailable, to_call_error
from molecule_grpc.client.final_status import FinalStatus


class Server:
    """Refuses each call after its first request, once it is told to."""

    def __init__(self, channel: grpc.aio.Channel, refusing: asyncio.Event) -> None:
        self._channel: Any = channel
        self.refusing = refusing

    async def call(self) -> grpc.aio.StreamUnaryCall[bytes, bytes]:
        """A call whose first request has been written."""
        call: grpc.aio.StreamUnaryCall[bytes, bytes] = self._channel.stream_unary("/a.B/C")()
        await call.write(b"x")
        return call


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A real one."""
    refusing = asyncio.Event()

    async def refuse(requests: AsyncIterator[bytes], context: Any) -> bytes:
        await anext(requests)
        await refusing.wait()
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")
        raise AssertionError("abort returned")

    running = grpc.aio.server()
    handlers: dict[str, Any] = {"C": grpc.stream_unary_rpc_method_handler(refuse)}
    running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", handlers),))
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Server(channel, refusing)
    await running.stop(None)


def fail_a_write(call: Any) -> grpc.aio.AioRpcError:
    """Do what the library does with a write that comes too late, which a test cannot time."""
    call._cython_call.set_internal_error("")
    return grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, details=LIBRARY_FAILED)


async def test_servers_status_counts_that_came_before_the_write_failed(server: Server) -> None:
    call = await server.call()
    status = FinalStatus(call)
    server.refusing.set()
    assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    error = fail_a_write(call)
    assert await call.code() is grpc.StatusCode.INTERNAL
    found = await status.of(error)
    assert (found.code(), found.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")


async def test_servers_status_counts_that_comes_after_the_write_failed(server: Server) -> None:
    call = await server.call()
    status = FinalStatus(call)
    error = fail_a_write(call)
    server.refusing.set()
    found = await status.of(error)
    assert (found.code(), found.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")


async def test_call_of_which_the_server_says_nothing_may_be_made_again(server: Server) -> None:
    call = await server.call()
    status = FinalStatus(call)
    error = fail_a_write(call)
    assert await status.of(error) is error
    assert isinstance(to_call_error(error), Unavailable)
    server.refusing.set()


async def test_other_errors_are_as_the_library_raised_them(server: Server) -> None:
    call = await server.call()
    status = FinalStatus(call)
    server.refusing.set()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert await status.of(raised.value) is raised.value


async def test_call_that_its_client_cancels_is_cancelled(server: Server) -> None:
    call = await server.call()
    FinalStatus(call)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    server.refusing.set()
