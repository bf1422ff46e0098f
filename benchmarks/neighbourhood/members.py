"""Attackers with valid tokens of an organisation of their own.

Each sends bytes prepared once and does not parse what comes back: the attacker costs the machine
little, the server all that it permits.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from typing import TypeAlias

import aiohttp
import grpc
from google.api import httpbody_pb2
from google.protobuf import struct_pb2
from google.protobuf.message import Message
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb

from benchmarks.harness import Agent
from benchmarks.neighbourhood.site import AGENT_ADDRESS, Attack, Site
from tests.fake_agent import fake_agent, hangs

AGENTS = 8
_DELEGATION = "/moleculeai.delegation.v1.DelegationService/"
_WORKSPACE = "/moleculeai.workspace.v1.WorkspaceService/"
_ROWS = 4000
_STREAMS = 2000
_STREAMS_PER_CHANNEL = 500
_SLOW_UPLOADS = 200
_STREAM_INBOX = f"{_DELEGATION}StreamInbox"
_Call: TypeAlias = "grpc.aio.UnaryStreamCall[bytes, bytes]"
_Stream: TypeAlias = "grpc.aio.UnaryStreamMultiCallable[bytes, bytes]"


async def searches(site: Site) -> None:
    """50 parallel searches for a word that no row holds, over a record of 4,000 rows of 1 KB."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await _fill(site, http)
        await site.ready()
        await site.flood(lambda n: _get(site, http, n, "session-search?q=nowhere"), callers=50)


async def pages(site: Site) -> None:
    """20 parallel readers of 500 rows of 1 KB."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await _fill(site, http)
        await site.ready()
        await site.flood(lambda n: _get(site, http, n, "activity?limit=500"), callers=20)


async def streams(site: Site) -> None:
    """2,000 streams of which nothing is read, then a message of 100 KB every 0.1 s."""
    channels = [site.channel() for _ in range(_STREAMS // _STREAMS_PER_CHANNEL)]
    calls: list[_Call] = []
    for index in range(_STREAMS):
        agent = site.agents[index % AGENTS]
        opening: _Stream = channels[index % len(channels)].unary_stream(_STREAM_INBOX)
        request = pb.StreamInboxRequest(workspace_id=str(agent.id)).SerializeToString()
        calls.append(opening(request, metadata=agent.metadata))
    for call in calls:
        await call.initial_metadata()  # stands, or is refused
    counting = asyncio.create_task(_count_refused(site, calls))
    channel = site.channel()
    await site.ready()
    await site.flood(
        lambda n: _rpc(channel, f"{_DELEGATION}SendMessage", *_message(site, n, 100_000)),
        callers=1,
        pause=0.1,
    )
    counting.cancel()


async def messages(site: Site) -> None:
    """Messages of just under 1 MB from 8 callers, each as fast as answers come."""
    channels = [site.channel() for _ in range(AGENTS)]
    await site.ready()
    await site.flood(
        lambda n: _rpc(channels[n], f"{_DELEGATION}SendMessage", *_message(site, n, 1_000_000)),
        callers=AGENTS,
    )


async def names(site: Site) -> None:
    """50 parallel registrations with host names whose name server never answers."""
    channel, numbers = site.channel(), itertools.count()
    await site.ready()

    async def register(index: int) -> int:
        agent = site.agents[index % AGENTS]
        return await _register(channel, agent, f"http://slow{next(numbers)}.example/")

    await site.flood(register, callers=50)


async def targets(site: Site) -> None:
    """500 parallel messages to agents that accept the connection and never answer."""
    channel = site.channel()
    async with fake_agent(hangs, AGENT_ADDRESS) as agent:
        for hired in site.agents:
            await _register(channel, hired, agent.url)
        await site.ready()
        await site.flood(
            lambda n: _rpc(channel, f"{_DELEGATION}SendMessage", *_message(site, n, 100)),
            callers=500,
        )


async def uploads(site: Site) -> None:
    """200 parallel uploads, each at 1 KB/s."""

    async def trickle() -> object:
        yield b'--xx\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        while True:
            yield b"x" * 1024
            await asyncio.sleep(1)

    async def upload(index: int) -> int:
        agent = site.agents[index % AGENTS]
        headers = {**dict(agent.metadata), "content-type": "multipart/form-data; boundary=xx"}
        url = f"{site.url}/workspaces/{agent.id}/chat/uploads"
        async with http.post(url, data=trickle(), headers=headers) as answer:
            await answer.read()
            return answer.status

    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        await site.ready()
        await site.flood(upload, callers=_SLOW_UPLOADS)


async def minting(site: Site) -> None:
    """16 callers mint tokens, each as fast as answers come."""
    channel = site.channel()
    await site.ready()

    async def mint(index: int) -> int:
        agent = site.agents[index % AGENTS]
        request = workspace_pb.CreateTokenRequest(workspace_id=str(agent.id))
        return await _rpc(channel, f"{_WORKSPACE}CreateToken", agent, request)

    await site.flood(mint, callers=16)


async def _fill(site: Site, http: aiohttp.ClientSession) -> None:
    """Give the first workspace a record."""
    agent, left = site.agents[0], iter(range(_ROWS))
    row = {"activity_type": "agent_log", "summary": "x" * 1000}

    async def write() -> None:
        for _ in left:
            url = f"{site.url}/workspaces/{agent.id}/activity"
            async with http.post(url, json=row, headers=dict(agent.metadata)) as answer:
                answer.raise_for_status()

    await asyncio.gather(*(write() for _ in range(32)))


async def _get(site: Site, http: aiohttp.ClientSession, _: int, path: str) -> int:
    agent = site.agents[0]
    url = f"{site.url}/workspaces/{agent.id}/{path}"
    async with http.get(url, headers=dict(agent.metadata)) as answer:
        await answer.read()
        return answer.status


async def _rpc(channel: grpc.aio.Channel, path: str, agent: Agent, request: Message) -> int:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    await call(request.SerializeToString(), metadata=agent.metadata)
    return 200


def _message(site: Site, index: int, size: int) -> tuple[Agent, pb.SendMessageRequest]:
    """A sender, and its message of `size` bytes to the next workspace."""
    sender, receiver = site.agents[index % AGENTS], site.agents[(index + 1) % AGENTS]
    parts = [{"kind": "text", "text": "x" * size}]
    message = {"messageId": str(uuid.uuid4()), "parts": parts}
    body = json.dumps({"method": "message/send", "params": {"message": message}}).encode()
    request = pb.SendMessageRequest(
        workspace_id=str(receiver.id),
        source_id=str(sender.id),
        body=httpbody_pb2.HttpBody(content_type="application/json", data=body),
    )
    return sender, request


async def _register(channel: grpc.aio.Channel, agent: Agent, url: str) -> int:
    request = workspace_pb.RegisterRequest(
        id=str(agent.id),
        url=url,
        delivery_mode=workspace_pb2.Workspace.push,
        agent_card=struct_pb2.Value(string_value="card"),
    )
    return await _rpc(channel, f"{_WORKSPACE}Register", agent, request)


async def _count_refused(site: Site, calls: list[_Call]) -> None:
    """Count the streams that the server has ended, and with which status."""

    async def follow(call: _Call) -> None:
        code = await call.code()
        site.outcomes[200 if code is grpc.StatusCode.OK else 429] += 1

    await asyncio.gather(*(follow(call) for call in calls))


ATTACKS = (
    Attack("searches", "50 parallel searches", searches),
    Attack("pages", "500-row pages, 20 at once", pages),
    Attack("streams", "2,000 unread streams", streams),
    Attack("messages", "1 MB messages at full speed", messages),
    Attack("names", "slow DNS names, 50 at once", names),
    Attack("targets", "500 calls to hanging agents", targets),
    Attack("uploads", "200 slow uploads", uploads),
    Attack("minting", "token minting, 16 callers", minting),
)
