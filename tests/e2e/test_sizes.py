"""Requests and answers are bounded in bytes, on stock clients, with and without a token."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.client.connection import MAX_METADATA_BYTES, Connection
from molecule_grpc.client.errors import InvalidArgument
from molecule_grpc.kernel.sizes import MAX_HEADER_BYTES, MAX_REQUEST_BYTES
from molecule_grpc.resources import descriptor_set
from molecule_grpc.server.edge.surface import Rpc, read_surface
from tests.connections import connected
from tests.e2e.parties import Agent, Organization, Party, Refused, refused
from tests.e2e.scripted_edge import ScriptedEdge, scripted_edge
from tests.running import RunningServer
from tests.waiting import PATIENCE

MIB = 1024 * 1024
# A page of a list, with what stands around its rows.
PAGE = 3 * MIB + 64 * 1024
MESSAGES = 16
RPCS = read_surface(descriptor_set())
ID = "0190a5e2-0000-7000-8000-000000000001"


async def send(sender: Agent, target: Agent, text: str) -> None:
    parts = [{"kind": "text", "text": text}]
    body = {"method": "message/send", "params": {"message": {"role": "user", "parts": parts}}}
    answer = await sender.rest("POST", f"/workspaces/{target.id}/a2a", body)
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
async def edge() -> AsyncIterator[ScriptedEdge]:
    async with scripted_edge() as running:
        yield running


@pytest.fixture
async def crowded(org: Organization) -> Agent:
    """An agent with sixteen messages of 250 KB that nobody has read."""
    sender, target = await org.hire(), await org.hire()
    await target.rest("POST", "/registry/register", {"id": target.id, "agent_card": {"name": "t"}})
    for number in range(MESSAGES):
        await send(sender, target, f"{number:02} " + "x" * 250_000)
    return target


# Answers.


async def test_an_inbox_of_large_messages_is_pulled_in_pages(crowded: Agent) -> None:
    """Each item has its text, and its body with the text: 500 KB."""
    seen: list[str] = []
    after = 0
    while len(seen) < MESSAGES:
        page = await crowded.rpc(
            pb.PullInboxRequest(workspace_id=crowded.id, after_seq=after, limit=100)
        )
        assert page.items
        assert page.ByteSize() <= PAGE
        seen += [item.text[:2] for item in page.items]
        after = page.items[-1].seq
    assert seen == [f"{number:02}" for number in range(MESSAGES)]
    answer = await crowded.rest("GET", f"/workspaces/{crowded.id}/inbox", limit=100)
    assert answer.status_code == 200
    assert 0 < len(answer.json()["items"]) < MESSAGES


async def test_a_stream_gives_every_large_message(crowded: Agent) -> None:
    """A look at the inbox ends by bytes: the stream looks again."""
    stream = crowded.wire.channel.unary_stream(
        "/moleculeai.delegation.v1.DelegationService/StreamInbox",
        request_serializer=pb.StreamInboxRequest.SerializeToString,
        response_deserializer=pb.StreamInboxResponse.FromString,
    )(
        pb.StreamInboxRequest(workspace_id=crowded.id, max_in_flight=64),
        metadata=tuple(crowded.headers.items()),
    )
    seen = 0
    async with asyncio.timeout(PATIENCE):
        async for frame in stream:
            if frame.WhichOneof("frame") != "item":
                continue
            seen += 1
            assert int(frame.item.text[:2]) == seen - 1
            await crowded.rpc(pb.AckInboxRequest(workspace_id=crowded.id, up_to_seq=seen))
            if seen == MESSAGES:
                break
    stream.cancel()


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_a_record_of_large_rows_is_listed_in_pages(
    crowded: Agent, oldest_first: bool
) -> None:
    """The token of a page finds every row once, in either order."""
    path = f"/workspaces/{crowded.id}/activity"
    params: dict[str, Any] = {"limit": 500, "type": "a2a_receive", "source": "agent"}
    newest = [row["data"]["text"][:2] for row in await everything(crowded, path, params)]
    assert newest == [f"{number:02}" for number in reversed(range(MESSAGES))]
    if oldest_first:
        rows = await everything(crowded, path, params)
        params["since_id"] = rows[-1]["id"]
        after = [row["data"]["text"][:2] for row in await everything(crowded, path, params)]
        assert after == newest[::-1][1:]


async def everything(agent: Agent, path: str, params: dict[str, Any]) -> list[Any]:
    """All rows of a list, page by page. Each page fits a stock gRPC client."""
    rows: list[Any] = []
    token: str | None = ""
    while token is not None:
        answer = await agent.rest("GET", path, **params, page_token=token)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert page
        assert len(answer.content) <= PAGE
        rows += page
        token = answer.headers.get("x-next-page-token")
    return rows


async def test_a_record_of_large_rows_fits_a_stock_client(crowded: Agent) -> None:
    page = await crowded.rpc(pb.ListActivityRequest(workspace_id=crowded.id, limit="500"))
    assert page.activities
    assert page.ByteSize() <= PAGE


async def test_a_row_too_large_for_a_page_comes_without_its_bodies(org: Organization) -> None:
    """Numbers take five times as much room in a gRPC answer as in JSON."""
    agent = await org.hire()
    numbers = [1] * 400_000
    path = f"/workspaces/{agent.id}/activity"
    answer = await agent.rest("POST", path, {"activity_type": "agent_log", "request_body": numbers})
    assert answer.status_code in (200, 413), answer.text
    page = await agent.rpc(pb.ListActivityRequest(workspace_id=agent.id))
    assert page.ByteSize() <= PAGE


# Requests.


def oversized(rpc: Rpc) -> tuple[str, str] | None:
    """A REST path with a body that the edge does not stream to a worker."""
    for form in rpc.rest:
        if form.verb in ("POST", "PUT", "PATCH") and not rpc.taking:
            path = form.template
            for field in form.fields:
                path = path.replace("{" + field + "}", ID)
            return form.verb, path
    return None


WITH_BODY = [(rpc.path, *found) for rpc in RPCS if (found := oversized(rpc))]


@pytest.mark.parametrize("token", ["", "authorization: Bearer t\r\n"], ids=["stranger", "token"])
@pytest.mark.parametrize(("path", "verb", "url"), WITH_BODY, ids=[each[0] for each in WITH_BODY])
async def test_no_rest_call_takes_more_than_the_limit(
    edge: ScriptedEdge, path: str, verb: str, url: str, token: str
) -> None:
    """413 in our shape, before a worker hears of the call: by its length, and without a length."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"task": "'
        for _ in range(MAX_REQUEST_BYTES // MIB + 1):
            yield b"x" * MIB

    said = {"error": f"the body exceeds {MAX_REQUEST_BYTES} bytes"}
    for framing, body in (
        (f"{token}content-length: {MAX_REQUEST_BYTES + 1}", nothing()),
        (f"{token}transfer-encoding: chunked", pieces()),
    ):
        async with asyncio.timeout(PATIENCE):
            answer = await refused_while_sending(edge.port, verb, url, framing, body)
        assert answer.startswith(b"HTTP/1.1 413")
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == said


async def nothing() -> AsyncIterator[bytes]:
    """No bytes: the announced length alone is too much."""
    for piece in list[bytes]():
        yield piece


async def refused_while_sending(
    port: int, verb: str, url: str, framing: str, pieces: AsyncIterator[bytes]
) -> bytes:
    """The answer to a client with an endless body."""
    async with connected(port) as (reader, writer):
        writer.write(f"{verb} {url} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            async for piece in pieces:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        return head + await reader.readexactly(length)


async def test_unfinished_bodies_do_not_fill_the_edge(edge: ScriptedEdge) -> None:
    """Four strangers send 120 MB each, in one JSON string, and never end."""
    before = resident(edge.edge.pid)

    async def flood() -> None:
        async with connected(edge.port) as (reader, writer):
            writer.write(
                f"POST /workspaces/{ID}/delegate HTTP/1.1\r\nhost: x\r\n"
                'transfer-encoding: chunked\r\n\r\n9\r\n{"task":"\r\n'.encode()
            )
            with contextlib.suppress(ConnectionError):
                for _ in range(120):
                    writer.write(b"100000\r\n" + b"x" * MIB + b"\r\n")
                    await writer.drain()
            with contextlib.suppress(ConnectionError):
                assert (await reader.readline()).startswith(b"HTTP/1.1 413")

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(flood() for _ in range(4)))
    assert resident(edge.edge.pid) - before < 64 * MIB


def resident(pid: int) -> int:
    """The memory of a process in bytes, at its peak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("known", [True, False], ids=["token", "stranger"])
async def test_no_rpc_takes_more_than_the_limit(wire: Any, org: Organization, known: bool) -> None:
    """One reasoned refusal for each RPC, and a stream on the same connection lives on."""
    agent = await org.hire()
    caller = agent if known else wire.party()
    beats = agent.wire.channel.unary_stream(
        "/moleculeai.delegation.v1.DelegationService/StreamInbox",
        request_serializer=pb.StreamInboxRequest.SerializeToString,
        response_deserializer=pb.StreamInboxResponse.FromString,
    )(pb.StreamInboxRequest(workspace_id=agent.id), metadata=tuple(agent.headers.items()))
    await beats.read()
    for rpc in RPCS:
        failure = await oversized_call(caller, rpc.path, MAX_REQUEST_BYTES + 1)
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "BODY_TOO_LARGE"), rpc.path
    async with asyncio.timeout(PATIENCE):
        frame: Any = await beats.read()
        assert frame.WhichOneof("frame") == "beat"
    beats.cancel()


async def oversized_call(caller: Party, path: str, size: int, **headers: str) -> Refused:
    """How a call with a message of so many bytes is refused."""
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = caller.wire.channel.unary_unary(path)
    call = method(
        b"\0" * size,
        metadata=(*caller.headers.items(), *headers.items()),
        timeout=PATIENCE,
    )
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return refused(error.value)


# Headers.


@pytest.mark.parametrize("size", [35_000, 55_000])
async def test_too_much_metadata_fails_its_call_alone(org: Organization, size: int) -> None:
    agent = await org.hire()
    stream = agent.wire.channel.unary_stream(
        "/moleculeai.delegation.v1.DelegationService/StreamInbox",
        request_serializer=pb.StreamInboxRequest.SerializeToString,
        response_deserializer=pb.StreamInboxResponse.FromString,
    )(pb.StreamInboxRequest(workspace_id=agent.id), metadata=tuple(agent.headers.items()))
    await stream.read()
    large = Party(agent.wire, {**agent.headers, "x-one": "y" * size, "x-two": "y" * size})
    request: Message = pb.PullInboxRequest(workspace_id=agent.id)
    with pytest.raises(Refused) as refusal:
        await large.rpc(request)
    assert refusal.value.code == "RESOURCE_EXHAUSTED"
    async with asyncio.timeout(PATIENCE):
        frame: Any = await stream.read()
        assert frame.WhichOneof("frame") == "beat"
    stream.cancel()


async def test_the_sdk_refuses_too_much_metadata_before_it_is_sent(
    org: Organization, server: RunningServer
) -> None:
    """As much as the server takes is sent; more would end the connection and its other calls."""
    agent = await org.hire()
    assert MAX_METADATA_BYTES == MAX_HEADER_BYTES
    room = MAX_METADATA_BYTES - 2 * 32 - len(f"authorizationBearer {agent.token}") - len("x-large")
    request = pb.PullInboxRequest(workspace_id=agent.id)
    for size, fits in ((room, True), (room + 1, False)):
        headers = [("x-large", "y" * size)]
        async with Connection(server.url, agent.token, headers=headers) as connection:
            call = connection.call(connection.delegations.PullInbox, request, retry=False)
            if fits:
                await call
                continue
            with pytest.raises(InvalidArgument, match="at most 61440 may be sent"):
                await call


async def test_a_token_longer_than_any_is_refused(server: RunningServer, wire: Any) -> None:
    """As an unknown one: 401."""
    answer = await wire.party("x" * 10_000).rest("GET", "/workspaces")
    assert answer.status_code == 401
