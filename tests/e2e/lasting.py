"""Lasting calls, each held open for a revocation to end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import asyncpg
import grpc
import httpx
from google.api import httpbody_pb2
from google.protobuf.message import Message

from tests.e2e.families import Family
from tests.e2e.parties import Agent
from tests.e2e.valid_requests import valid_frames
from tests.running import RunningServer
from tests.waiting import PATIENCE, until
from tools.descriptors import Rpc

WAIT_SECONDS = 50
_USED = re.compile(r'^molecule_grpc_budget_used{budget="streams"} (\S+)$', re.MULTILINE)


class Lasting:
    """One call under way, made by an agent of its own.

    Args:
        agent: its token opened the call, and no other call.
    """

    def __init__(self, agent: Agent, call: Any) -> None:
        self.agent = agent
        self._call = call
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> bytes:
        last = b""
        with contextlib.suppress(grpc.aio.AioRpcError):
            if not hasattr(self._call, "read"):
                return bytes(await self._call)
            while (message := await self._call.read()) is not grpc.aio.EOF:
                last = message
        return last

    async def code(self) -> str:
        """How the call ended; of an MCP tool's answer, the reason that the answer names."""
        async with asyncio.timeout(PATIENCE):
            last = await self._reading
            code: str = (await self._call.code()).name
        if code == "OK" and b'"isError":true' in last:
            answer = json.loads(httpbody_pb2.HttpBody.FromString(last).data)
            return str(json.loads(answer["result"]["content"][0]["text"])["reason"])
        return code


@contextlib.asynccontextmanager
async def under_way(
    rpcs: Iterable[Rpc], family: Family, server: RunningServer
) -> AsyncIterator[dict[str, Lasting]]:
    """A call of each of these RPCs, past its beginning and far from its end, while inside."""
    hired = {rpc.name: await family.org.hire() for rpc in rpcs}
    friend = await family.org.hire()
    held = await asyncpg.connect(server.database_url)
    await held.execute(
        "UPDATE workspaces SET delivery_mode = 'push', url = 'http://192.0.2.1/',"
        " platform_inbound_secret = NULL WHERE id = ANY($1)",
        [friend.id, hired["DownloadFile"].id],
    )
    frames = {}
    for rpc in rpcs:
        around = replace(family, own=hired[rpc.name])
        if rpc.name == "SendMessage":
            around = replace(around, related=friend)
        frames[rpc.name] = [_long(one) for one in await valid_frames(rpc, around)]
    await until(lambda: _open_calls(server), lambda count: count == 0)
    calls: dict[str, Lasting] = {}
    try:
        for rpc in sorted(rpcs, key=lambda one: one.name != "Delegate"):
            agent = hired[rpc.name]
            calls[rpc.name] = Lasting(agent, _start(agent, rpc, frames[rpc.name]))
            if rpc.name == "Delegate":
                await until(
                    lambda: held.fetchval(
                        "SELECT count(*) FROM delegations WHERE caller_id = $1",
                        hired["Delegate"].id,
                    ),
                    lambda count: count == 1,
                )
                await _stop(held, hired["DownloadFile"])
        await until(lambda: _open_calls(server), lambda count: count == len(calls))
        yield calls
    finally:
        await held.close()


async def _stop(held: asyncpg.Connection[asyncpg.Record], called: Agent) -> None:
    """From here on nobody reads stored bytes, sends messages to agents, or learns this secret."""
    await held.execute("BEGIN")
    await held.execute("LOCK TABLE upload_chunks, a2a_queue")
    await held.execute("SELECT FROM workspaces WHERE id = $1 FOR UPDATE", called.id)


def _long(request: Message) -> bytes:
    """The request, with a wait where it can have one."""
    if "wait_seconds" in request.DESCRIPTOR.fields_by_name:
        request.wait_seconds = WAIT_SECONDS  # type: ignore[attr-defined]
    if request.DESCRIPTOR.name == "CallMcpRequest":
        arguments = {"timeout_secs": WAIT_SECONDS}
        called = {"name": "wait_for_message", "arguments": arguments}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": called}
        request.body.data = json.dumps(body).encode()  # type: ignore[attr-defined]
    return request.SerializeToString()


def _start(agent: Agent, rpc: Rpc, frames: list[bytes]) -> Any:
    async def sent() -> AsyncIterator[bytes]:
        for frame in frames:
            yield frame
        await asyncio.Event().wait()

    kinds = ["unary", "stream"]
    kind = f"{kinds[rpc.method.client_streaming]}_{kinds[rpc.method.server_streaming]}"
    call = getattr(agent.wire.channel, kind)(f"/{rpc.service}/{rpc.name}")
    request = sent() if rpc.method.client_streaming else frames[0]
    return call(request, metadata=tuple(agent.headers.items()), timeout=2 * PATIENCE)


async def _open_calls(server: RunningServer) -> int:
    """How many calls run under the guard of what lasts."""
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        text = (await http.get(f"{server.url}/metrics")).text
    found = _USED.search(text)
    return int(float(found[1])) if found else 0
