"""The victim: an organisation that reads, beats, delegates, streams and calls its own agent.

Calls start at fixed times, whether or not earlier ones have ended, and a latency counts from the
time at which the call was due: a server that stands still for a second is seen by every call of
that second.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import json
import time
import uuid
from collections.abc import Awaitable

import aiohttp
import grpc
import uvloop
from google.api import httpbody_pb2
from google.protobuf import struct_pb2
from moleculeai.delegation.v1 import delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import delegation_service_pb2_grpc as stubs
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb
from moleculeai.workspace.v1 import workspace_service_pb2_grpc as workspace_stubs

from benchmarks.harness import Agent
from benchmarks.neighbourhood.site import AGENT_ADDRESS, Site, line, say, status_of
from tests.fake_agent import fake_agent

PAIRS = 8
AGENTS = 2 * PAIRS + 1
KINDS = ("read", "heartbeat", "delegate", "stream", "push")
_RATE = 20.0  # calls of each kind in a second
_LIMIT_SECONDS = 30.0
_ACK_SECONDS = 0.5


class Victim:
    """Callers, callees with open streams, and one agent that is called at its URL."""

    def __init__(
        self, site: Site, channel: grpc.aio.Channel, http: aiohttp.ClientSession, url: str
    ) -> None:
        self._site = site
        self._http = http
        self._url = url
        self._delegations = stubs.DelegationServiceStub(channel)
        self._workspaces = workspace_stubs.WorkspaceServiceStub(channel)
        self._callers = site.agents[:PAIRS]
        self._callees = site.agents[PAIRS : 2 * PAIRS]
        self._push = site.agents[2 * PAIRS]
        self._awaited: dict[str, asyncio.Future[None]] = {}
        self._welcomed = asyncio.Semaphore(0)
        self._seen: dict[Agent, int] = {}
        self.latencies: dict[str, list[float]] = {}
        self.failures: collections.Counter[str] = collections.Counter()

    async def open(self, group: asyncio.TaskGroup) -> None:
        """Register the agent with a URL; return when all streams are open."""
        request = workspace_pb.RegisterRequest(
            id=str(self._push.id),
            url=self._url,
            delivery_mode=workspace_pb2.Workspace.push,
            agent_card=struct_pb2.Value(string_value="card"),
        )
        await self._workspaces.Register(request, metadata=self._push.metadata)
        for agent in (*self._callers, *self._callees):
            group.create_task(self._follow(agent))
            await self._welcomed.acquire()
        group.create_task(self._acknowledge())

    async def window(self, seconds: float) -> None:
        """Call for so long, and return when every call has ended."""
        self.latencies = {kind: [] for kind in KINDS}
        self.failures.clear()
        start, count = time.monotonic(), int(seconds * _RATE)
        calls = {
            "read": self._read,
            "heartbeat": self._heartbeat,
            "delegate": self._delegate,
            "push": self._send,
        }
        async with asyncio.TaskGroup() as group:
            for turn in range(count):
                for place, (kind, call) in enumerate(calls.items()):
                    due = start + (turn + place / len(calls)) / _RATE
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    group.create_task(self._limited(kind, call(turn % PAIRS, due)))

    async def _limited(self, kind: str, call: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                await call
        except grpc.aio.AioRpcError as error:
            self.failures[f"{kind} {status_of(error)} {error.details()}"] += 1
        except aiohttp.ClientResponseError as error:
            self.failures[f"{kind} {error.status}"] += 1
        except (aiohttp.ClientError, OSError) as error:
            self.failures[f"{kind} 500 {type(error).__name__}"] += 1

    def _took(self, kind: str, since: float) -> None:
        self.latencies[kind].append((time.monotonic() - since) * 1000)

    async def _read(self, index: int, due: float) -> None:
        agent = self._callers[index]
        url = f"{self._site.url}/workspaces/{agent.id}/activity?limit=20"
        async with self._http.get(url, headers=dict(agent.metadata)) as answer:
            answer.raise_for_status()
            await answer.read()
        self._took("read", due)

    async def _heartbeat(self, index: int, due: float) -> None:
        agent = self._callers[index]
        request = workspace_pb.HeartbeatRequest(workspace_id=str(agent.id), active_tasks=1)
        await self._workspaces.Heartbeat(request, metadata=agent.metadata)
        self._took("heartbeat", due)

    async def _delegate(self, index: int, due: float) -> None:
        """Delegate, wait until the task has reached the callee's stream, and complete it."""
        caller, callee = self._callers[index], self._callees[index]
        task = uuid.uuid4().hex
        arrived = asyncio.get_running_loop().create_future()
        self._awaited[task] = arrived
        request = pb.DelegateRequest(
            workspace_id=str(caller.id), target_id=str(callee.id), task=task
        )
        answer = await self._delegations.Delegate(request, metadata=caller.metadata)
        self._took("delegate", due)
        await arrived
        self._took("stream", due)
        done = pb.UpdateDelegationRequest(
            workspace_id=str(callee.id),
            delegation_id=answer.delegation_id,
            status=delegation_pb2.Delegation.Status.completed,
            response_preview="done",
        )
        await self._delegations.UpdateDelegation(done, metadata=callee.metadata)

    async def _send(self, index: int, due: float) -> None:
        sender = self._callers[index]
        message = {"messageId": str(uuid.uuid4()), "parts": [{"kind": "text", "text": "hello"}]}
        body = json.dumps({"method": "message/send", "params": {"message": message}}).encode()
        request = pb.SendMessageRequest(
            workspace_id=str(self._push.id),
            source_id=str(sender.id),
            body=httpbody_pb2.HttpBody(content_type="application/json", data=body),
        )
        answer = await self._delegations.SendMessage(request, metadata=sender.metadata)
        if b"echo: hello" in answer.data:
            self._took("push", due)
        else:
            self.failures[f"push answered {answer.data[:200].decode()}"] += 1

    async def _follow(self, agent: Agent) -> None:
        """Read an inbox for ever; a stream that ends is a failure, and opened again."""
        welcomed = False
        while True:
            request = pb.StreamInboxRequest(workspace_id=str(agent.id))
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for frame in self._delegations.StreamInbox(request, metadata=agent.metadata):
                    if frame.HasField("welcome") and not welcomed:
                        welcomed = True
                        self._welcomed.release()
                    elif frame.HasField("item"):
                        self._arrived(agent, frame.item.seq, frame.item.text)
            self.failures["stream ended"] += 1
            await asyncio.sleep(0.2)

    def _arrived(self, agent: Agent, seq: int, text: str) -> None:
        self._seen[agent] = seq
        arrived = self._awaited.pop(text, None)
        if arrived is not None and not arrived.done():
            arrived.set_result(None)

    async def _acknowledge(self) -> None:
        """Keep the inboxes short and the called agent online, as every agent does."""
        while True:
            await asyncio.sleep(_ACK_SECONDS)
            beat = workspace_pb.HeartbeatRequest(workspace_id=str(self._push.id))
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self._workspaces.Heartbeat(beat, metadata=self._push.metadata)
            seen, self._seen = self._seen, {}
            for agent, seq in seen.items():
                request = pb.AckInboxRequest(workspace_id=str(agent.id), up_to_seq=seq)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self._delegations.AckInbox(request, metadata=agent.metadata)


async def _serve() -> None:
    """Run a window for each line with a number of seconds; print latencies and failures."""
    gc.disable()  # A pause of this process would count as the server's.
    site = await Site.read()
    async with (
        site.channel() as channel,
        aiohttp.ClientSession() as http,
        fake_agent(host=AGENT_ADDRESS) as agent,
        asyncio.TaskGroup() as group,
    ):
        victim = Victim(site, channel, http, agent.url)
        await victim.open(group)
        say("ready")
        while seconds := (await line()).strip():
            await victim.window(float(seconds))
            say([victim.latencies, victim.failures])
        raise SystemExit


if __name__ == "__main__":
    uvloop.run(_serve())
