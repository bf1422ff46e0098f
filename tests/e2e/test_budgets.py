"""Limits on the streams, statements and uploads of a workspace or organisation, at both faces."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import TypeAlias

import asyncpg
import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from tests.conftest import execute, with_database
from tests.e2e.parties import Agent, Organization, Party, Wire, found, wire_to
from tests.e2e.readers import tell
from tests.running import RunningServer
from tests.waiting import PATIENCE, until

STREAM = "/moleculeai.delegation.v1.DelegationService/StreamInbox"
STREAMS = 6
UPLOADS = 2
FORM = "multipart/form-data; boundary=xx"
FORM_HEAD = b'--xx\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
FORM_END = b"\r\n--xx--\r\n"
Stream: TypeAlias = "grpc.aio.UnaryStreamCall[Message, pb.StreamInboxResponse]"


@pytest.fixture(scope="module")
def small_server(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server with budgets that a test can use up."""
    asyncio.run(execute(postgres, f"CREATE DATABASE small_budgets TEMPLATE {template}"))
    running = RunningServer(
        with_database(postgres, "small_budgets"),
        tmp_path_factory.mktemp("small"),
        MOLECULE_STREAMS_PER_WORKSPACE=str(STREAMS),
        MOLECULE_UPLOADS_PER_ORGANIZATION=str(UPLOADS),
        MOLECULE_UPLOADS_PER_WORKER=str(UPLOADS + 1),
        MOLECULE_STREAM_BYTES_PER_ORGANIZATION=str(2 * 1024 * 1024),
    )
    running.start()
    yield running
    running.kill()
    asyncio.run(execute(postgres, "DROP DATABASE small_budgets WITH (FORCE)"))


@pytest.fixture
async def small_wire(small_server: RunningServer) -> AsyncIterator[Wire]:
    async with wire_to(small_server) as opened:
        yield opened


def streamed(agent: Agent, channel: grpc.aio.Channel) -> Stream:
    """An open stream of an agent's inbox, of which nothing is read."""
    method = channel.unary_stream(
        STREAM,
        request_serializer=pb.StreamInboxRequest.SerializeToString,
        response_deserializer=pb.StreamInboxResponse.FromString,
    )
    return method(
        pb.StreamInboxRequest(workspace_id=agent.id), metadata=tuple(agent.headers.items())
    )


async def code_of(call: Stream) -> grpc.StatusCode:
    """Read a stream to its end."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for _ in call:
                pass
        return await call.code()


async def test_streams_of_one_workspace_are_counted_until_they_end(
    small_server: RunningServer, small_wire: Wire
) -> None:
    org = await found(small_wire, small_wire.party(small_server.admin_token))
    agent, neighbour = await org.hire(), await org.hire()
    held = [streamed(agent, small_wire.channel) for _ in range(STREAMS)]
    for each in held:
        await each.read()
    refused = streamed(agent, small_wire.channel)
    assert await code_of(refused) is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = status_pb2.Status.FromString(
        dict(await refused.trailing_metadata())["grpc-status-details-bin"]
    ).details
    quota, retry = error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
    assert [each.Unpack(quota) or each.Unpack(retry) for each in details][1:] == [True, True]
    assert quota.violations[0].subject == f"workspace:{agent.id}"
    assert retry.retry_delay.seconds == 1
    over_rest = await agent.rest("GET", f"/workspaces/{agent.id}/inbox?wait_seconds=1")
    assert (over_rest.status_code, over_rest.headers["retry-after"]) == (429, "1")
    other = streamed(neighbour, small_wire.channel)
    await other.read()
    for each in (*held, other):
        each.cancel()

    async def again() -> int:
        return (await agent.rest("GET", f"/workspaces/{agent.id}/inbox")).status_code

    assert await until(again, lambda status: status == 200) == 200


async def test_streams_that_nobody_reads_end_before_they_fill_the_memory(
    small_server: RunningServer, small_wire: Wire
) -> None:
    """And a neighbour's stream goes on. One line of the log for each, and no traceback."""
    operator = small_wire.party(small_server.admin_token)
    org, other = await found(small_wire, operator), await found(small_wire, operator)
    sender, deaf, reader, friend = [await each.hire() for each in (org, org, other, other)]
    before = small_server.log.read_text()
    # Else the client's library reads megabytes ahead.
    narrow = grpc.aio.insecure_channel(
        small_server.grpc_target, options=[("grpc.http2.bdp_probe", 0)]
    )
    unread = [streamed(deaf, narrow) for _ in range(STREAMS)]
    for _ in range(20):
        await tell(sender, deaf, "x" * 200_000)

    async def slow() -> int:
        return small_server.log.read_text().removeprefix(before).count("slow consumer")

    assert await until(slow, lambda count: count >= STREAMS - 2) >= STREAMS - 2
    read = streamed(reader, small_wire.channel)
    await read.read()
    await tell(friend, reader, "hello")
    frame = await asyncio.wait_for(read.read(), PATIENCE)
    assert isinstance(frame, pb.StreamInboxResponse)
    assert frame.item.text == "hello"
    # Which two go on is not promised.
    ends = [asyncio.create_task(code_of(each)) for each in unread]
    first = itertools.islice(asyncio.as_completed(ends), STREAMS - 2)
    assert {await end for end in first} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    for end in ends:
        end.cancel()
    await asyncio.gather(*ends, return_exceptions=True)
    read.cancel()
    await narrow.close()
    assert "Traceback" not in small_server.log.read_text().removeprefix(before)


async def test_calls_that_hold_statements_delay_their_own_organization_only(
    server: RunningServer, org: Organization, other_org: Organization, stranger: Party
) -> None:
    """Twenty calls of one token wait for a lock; a pool has sixteen connections."""
    slow, neighbour = await org.hire(), await other_org.hire()
    holder = await asyncpg.connect(server.database_url)
    # A transaction sees no backend that began after its first look at pg_stat_activity.
    observer = await asyncpg.connect(server.database_url)
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM workspaces WHERE id = $1 FOR UPDATE", slow.id)
            waiting = [
                asyncio.create_task(slow.rest("POST", f"/workspaces/{slow.id}/tokens"))
                for _ in range(20)
            ]
            blocked = """
                SELECT count(*) FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND datname = current_database()
            """
            while await observer.fetchval(blocked) < 4:
                await asyncio.sleep(0.01)
            for _ in range(5):
                answer = await neighbour.rest("GET", f"/workspaces/{neighbour.id}/tokens")
                assert answer.status_code == 200, answer.text
                assert (await stranger.rest("GET", "/health")).status_code == 200
            assert await observer.fetchval(blocked) == 4
    finally:
        await holder.close()
        await observer.close()
    answers = await asyncio.gather(*waiting)
    assert {answer.status_code for answer in answers} == {201}


async def test_streams_of_mcp_count_as_streams(small_server: RunningServer) -> None:
    async with wire_to(small_server) as wire, contextlib.AsyncExitStack() as stack:
        org = await found(wire, wire.party(small_server.admin_token))
        agent = await org.hire()
        path = f"/workspaces/{agent.id}/mcp/stream"
        # Dropping an iterator closes the connection.
        held: list[AsyncIterator[bytes]] = []

        async def opened() -> int:
            answer = await stack.enter_async_context(
                wire.http.stream("GET", path, headers=agent.headers)
            )
            pieces = answer.aiter_bytes()
            await anext(pieces)
            held.append(pieces)
            return answer.status_code

        assert [await opened() for _ in range(STREAMS)] == [200] * STREAMS
        assert (await agent.rest("GET", path)).status_code == 429


async def test_uploads_that_crawl_delay_their_own_organization_only(
    small_server: RunningServer, small_wire: Wire
) -> None:
    """Whole requests and steps count alike; all arrive when the crawling ones end."""
    operator = small_wire.party(small_server.admin_token)
    slow = await (await found(small_wire, operator)).hire()
    neighbour = await (await found(small_wire, operator)).hire()
    released, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def crawling() -> int:
        async def body() -> AsyncIterator[bytes]:
            yield FORM_HEAD + b"x"
            begun.release()
            await released.wait()
            yield FORM_END

        answer = await small_wire.http.post(
            f"/workspaces/{slow.id}/chat/uploads",
            content=body(),
            headers={**slow.headers, "content-type": FORM},
        )
        return answer.status_code

    held = [asyncio.create_task(crawling()) for _ in range(UPLOADS + 2)]
    for _ in held:
        await begun.acquire()

    async def under_way() -> bool:
        metrics = (await small_wire.http.get("/metrics")).text
        return f'molecule_grpc_budget_used{{budget="uploads"}} {UPLOADS}.0' in metrics

    await until(under_way, bool)
    started = await slow.rest("POST", f"/workspaces/{slow.id}/uploads", {"name": "b", "size": 5})
    step = f"/workspaces/{slow.id}/uploads/{started.json()['upload_id']}?offset=0"
    writing = asyncio.create_task(small_wire.http.put(step, content=b"hello", headers=slow.headers))
    files = {"files": ("a.txt", b"hello")}
    path = f"/workspaces/{neighbour.id}/chat/uploads"
    sent = await small_wire.http.post(path, files=files, headers=neighbour.headers)
    assert sent.status_code == 200, sent.text
    assert not writing.done()
    released.set()
    assert {await each for each in held} == {200}
    assert (await writing).json()["committed_bytes"] == 5
