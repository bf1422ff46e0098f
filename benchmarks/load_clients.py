"""The two client processes of `benchmarks.load`: heartbeats, and agents with inbox streams.

Both read a plan (one line of JSON), connect, print a line about it, wait for a line, work for the
plan's seconds, and print what they saw as one line of JSON. Every call that fails is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import uvloop
from moleculeai.delegation.v1 import delegation_pb2, inbox_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import delegation_service_pb2_grpc as stubs
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb
from moleculeai.workspace.v1 import workspace_service_pb2_grpc as workspace_stubs

AGENTS_OF_CONNECTION = 100
_TASK = "x" * 200
_REOPEN_SECONDS = 0.2
_PATIENCE_SECONDS = 30.0
_RESULT = "delegate_result"


class Seen:
    """Milliseconds of calls that succeeded, and errors by what failed and how."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.errors: Counter[str] = Counter()

    async def call(self, name: str, rpc: Awaitable[Any]) -> Any:
        """Await one unary call; the answer, or None after counting the error."""
        start = time.monotonic()
        try:
            answer = await rpc
        except grpc.aio.AioRpcError as error:
            self.errors[f"{name}: {error.code().name}"] += 1
            return None
        self.took.append((time.monotonic() - start) * 1000)
        return answer

    def report(self, **more: object) -> None:
        """Print everything as one line."""
        print(json.dumps({"took": self.took, "errors": self.errors} | more), flush=True)


class Channels:
    """Connections, each shared by a hundred agents that come one after the other."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._open: list[grpc.aio.Channel] = []
        self._given = 0

    def next(self) -> grpc.aio.Channel:
        """The connection of the next agent."""
        if self._given % AGENTS_OF_CONNECTION == 0:
            options = (("grpc.use_local_subchannel_pool", 1),)
            self._open.append(grpc.aio.insecure_channel(self._target, options=options))
        self._given += 1
        return self._open[-1]


async def line() -> str:
    """The next line of standard input."""
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def _token(agent: list[str]) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {agent[1]}"),)


async def beat(plan: dict[str, Any]) -> None:
    """Every agent sends a heartbeat each `every` seconds, from a random moment on."""
    channels, seen = Channels(plan["target"]), Seen()
    agents = [
        (workspace_stubs.WorkspaceServiceStub(channels.next()), agent) for agent in plan["agents"]
    ]
    print(json.dumps({"ready": True}), flush=True)
    await line()
    end = time.monotonic() + plan["seconds"]

    async def agent_beats(rpc: workspace_stubs.WorkspaceServiceAsyncStub, agent: list[str]) -> None:
        request = workspace_pb.HeartbeatRequest(workspace_id=agent[0], active_tasks=1)
        await asyncio.sleep(random.uniform(0, plan["every"]))
        while time.monotonic() < end:
            await seen.call("Heartbeat", rpc.Heartbeat(request, metadata=_token(agent)))
            await asyncio.sleep(plan["every"])

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(agent_beats(rpc, agent)) for rpc, agent in agents]
        await asyncio.sleep(plan["seconds"])
        for task in tasks:
            task.cancel()
    seen.report()


class Member:
    """An agent with an open inbox stream: completes delegations, acks results."""

    def __init__(
        self, channel: grpc.aio.Channel, agent: list[str], seen: Seen, ended: Callable[[str], None]
    ) -> None:
        self.rpc: Any = stubs.DelegationServiceStub(channel)
        self.id, self.metadata = agent[0], _token(agent)
        self._seen, self._ended = seen, ended
        self.welcomed = asyncio.Event()
        self.reopened = 0

    async def run(self, work: asyncio.TaskGroup) -> None:
        """Read the stream for ever; open it again whenever it ends. Items are handled in `work`."""
        while True:
            try:
                await self._read(work)
            except grpc.aio.AioRpcError as error:
                self._seen.errors[f"SubscribeInbox: {error.code().name}"] += 1
            except asyncio.InvalidStateError:  # an ack for a stream that has ended meanwhile
                self._seen.errors["SubscribeInbox: ended"] += 1
            self.reopened += 1
            await asyncio.sleep(_REOPEN_SECONDS)

    async def _read(self, work: asyncio.TaskGroup) -> None:
        stream = self.rpc.SubscribeInbox(metadata=self.metadata)
        hello = pb.SubscribeInboxRequest.Hello(
            workspace_id=self.id, consumer_id="load", max_in_flight=256, takeover=True
        )
        await stream.write(pb.SubscribeInboxRequest(hello=hello))
        while (frame := await stream.read()) is not grpc.aio.EOF:
            if frame.HasField("item"):
                work.create_task(self._handle(frame.item))
                ack = inbox_pb2.Ack(up_to_seq=frame.item.seq)
                await stream.write(pb.SubscribeInboxRequest(ack=ack))
            elif frame.HasField("welcome"):
                self.welcomed.set()
            elif frame.HasField("drain"):
                break
        stream.cancel()

    async def _handle(self, item: inbox_pb2.InboxItem) -> None:
        if item.method == _RESULT:
            self._ended(item.delegation_id)
        elif item.delegation_id:
            request = pb.UpdateDelegationRequest(
                workspace_id=self.id,
                delegation_id=item.delegation_id,
                status=delegation_pb2.Delegation.completed,
                response_preview=_TASK,
            )
            # An ack precedes the work, so work that the server refused is this agent's to repeat.
            while True:
                call = self.rpc.UpdateDelegation(request, metadata=self.metadata)
                if await self._seen.call("UpdateDelegation", call):
                    return
                await asyncio.sleep(_REOPEN_SECONDS)


class Crowd:
    """All members, and the delegations that they hand to one another."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self.seen = Seen()
        self._begun: dict[str, float] = {}
        # A result may arrive before Delegate's response names the delegation.
        self._results: dict[str, float] = {}
        self._changed = asyncio.Event()
        channels = Channels(plan["target"])
        self._members = [
            Member(channels.next(), agent, self.seen, self._end) for agent in plan["agents"]
        ]

    def _end(self, delegation_id: str) -> None:
        self._results.setdefault(delegation_id, time.monotonic())
        self._changed.set()

    async def run(self) -> None:
        """Open all streams at once, delegate at the plan's rate, wait for what is under way."""
        async with asyncio.TaskGroup() as group:
            start = time.monotonic()
            reading = [group.create_task(member.run(group)) for member in self._members]
            for member in self._members:
                await member.welcomed.wait()
            refused = sum(member.reopened for member in self._members)
            opened = {"seconds": time.monotonic() - start, "refused": refused}
            print(json.dumps(opened), flush=True)
            await line()
            await self._delegate()
            await self._finish()
            for task in reading:
                task.cancel()
        loops = [
            (self._results[name] - begun) * 1000
            for name, begun in self._begun.items()
            if name in self._results
        ]
        self.seen.report(
            loops=loops,
            lost=len(self._begun) - len(loops),
            reopened=sum(member.reopened for member in self._members) - refused,
        )

    async def _delegate(self) -> None:
        rate, seconds = self._plan["rate"], self._plan["seconds"]
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
                group.create_task(self._one(number))

    async def _one(self, number: int) -> None:
        """Neighbours in the list are of one organisation."""
        callee = self._members[number * 2 % len(self._members)]
        caller = self._members[(number * 2 + 1) % len(self._members)]
        request = pb.DelegateRequest(workspace_id=caller.id, target_id=callee.id, task=_TASK)
        start = time.monotonic()
        made = await self.seen.call(
            "Delegate", caller.rpc.Delegate(request, metadata=caller.metadata)
        )
        if made:
            self._begun[made.delegation_id] = start

    async def _finish(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while self._begun.keys() - self._results.keys():
                    self._changed.clear()
                    await self._changed.wait()


async def main() -> None:
    """Read the plan and do its work."""
    plan = json.loads(await line())
    if plan["work"] == "beats":
        await beat(plan)
    else:
        await Crowd(plan).run()


if __name__ == "__main__":
    uvloop.run(main())
