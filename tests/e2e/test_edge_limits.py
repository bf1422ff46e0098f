"""Limits on the connections, bodies and memory that a stalled client holds at the edge."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest
from moleculeai.delegation.v1 import delegation_service_pb2

from tests.connections import connected
from tests.e2e.scripted_edge import ScriptedEdge, scripted_edge
from tests.e2e.scripted_worker import Reply
from tests.waiting import PATIENCE, until

MIB = 1024 * 1024


@pytest.mark.parametrize("path", ["/workspaces", "/workspaces/x/delegate", "/workspaces/x/a2a"])
async def test_a_body_that_stalls_is_given_up_also_where_the_answer_may_take_long(
    path: str,
) -> None:
    async with (
        scripted_edge(stream_idle_seconds=0.5) as edge,
        unfinished(edge, path, 1000) as reader,
    ):
        assert await status_of(reader) == 408


async def test_an_answer_may_be_silent_for_longer_than_a_body() -> None:
    async with scripted_edge(stream_idle_seconds=0.5) as edge:
        edge.script(Reply(pause=2))
        answer = await edge.http.post("/workspaces/x/delegate", json={"task": "long"})
        assert answer.status_code == 200


async def test_a_stream_on_which_nothing_passes_is_reset() -> None:
    """A worker sends a beat into silence: the client takes nothing, and fills the edge's memory."""
    async with scripted_edge(stalled_seconds=0.5) as edge:
        message = delegation_service_pb2.StreamInboxResponse()
        edge.script(Reply([message, message], pause=PATIENCE))
        with pytest.raises(httpx.RemoteProtocolError):
            await edge.http.get("/workspaces/x/inbox/stream")


TOKEN = {"authorization": f"Bearer {'t' * 43}"}
LONG = {"x-pad": "x" * 17_000}


@pytest.mark.parametrize(
    ("headers", "reaches"),
    [
        (TOKEN | LONG, True),
        ({"authorization": f"bearer  {'t' * 512}"} | LONG, True),
        ({"x-pad": "x" * 15_000}, True),
        (LONG, False),
        ({"authorization": ""} | LONG, False),
        ({"authorization": "Bearer"} | LONG, False),
        ({"authorization": f"Bearer {'t' * 17_000}"}, False),
    ],
)
async def test_long_headers_without_a_token_reach_no_worker(
    headers: dict[str, str], reaches: bool
) -> None:
    """16 KiB: each call would cost a worker the decoding of what is refused anyway."""
    async with scripted_edge() as edge:
        answer = await edge.http.get("/workspaces/x", headers=headers)
        assert answer.status_code == (200 if reaches else 431)
        call = edge.native(
            "/moleculeai.workspace.v1.WorkspaceService/GetWorkspace",
            metadata=tuple(headers.items()),
        )
        if reaches:
            await call
        else:
            assert "call without a token" in answer.json()["error"]
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert len(edge.worker.calls) == (2 if reaches else 0)


async def test_a_connection_without_a_call_is_closed() -> None:
    async with (
        scripted_edge(connection_idle_seconds=0.5) as edge,
        connected(edge.port) as (reader, _),
        asyncio.timeout(PATIENCE),
    ):
        assert await reader.read() == b""


async def test_stalled_bodies_do_not_keep_the_memory_of_the_edge() -> None:
    """They are ended before the 75 s of a quiet edge when they hold more than the edge may have."""
    async with scripted_edge(memory_bytes=160 * MIB) as edge:
        async with contextlib.AsyncExitStack() as stack:
            readers = [
                await stack.enter_async_context(unfinished(edge, "/workspaces/x/delegate", 3 * MIB))
                for _ in range(60)
            ]
            ends = [asyncio.create_task(status_of(each)) for each in readers]
            # A call that finds no room is refused at once; 0 when it was still sending.
            while (status := await next(iter(asyncio.as_completed(ends)))) != 408:
                assert status in (503, 0)
                ends = [each for each in ends if not each.done()]
            for each in ends:
                each.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

        async def served() -> int:
            return (await edge.http.get("/workspaces")).status_code

        assert await until(served, lambda status: status == 200) == 200


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of an answer; 0 when the connection was reset instead."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            if line := await reader.readline():
                return int(line.split()[1])
    return 0


@contextlib.asynccontextmanager
async def unfinished(
    edge: ScriptedEdge, path: str, sent: int
) -> AsyncIterator[asyncio.StreamReader]:
    """A call of which only so many bytes of the body are sent, and one is missing."""
    async with connected(edge.port) as (reader, writer):
        head = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {sent + 1}\r\n\r\n".encode() + b'{"task": "')
        writer.write(b"x" * (sent - 10))
        yield reader
