"""CPU microseconds of one call in the pipeline and its handler, from bytes to bytes.

    python -m benchmarks.call [--rounds 9] [--calls 2000]

The real application over a Postgres of its own runs in this process, without a host and without
a network in front of it: a request is parsed, goes through the pipeline, and its answer is
serialised. 64 workspaces call at once, each one call after the other. CPU is this thread's, so
that Postgres, other programs and waiting do not count; calls of one kind are made in rounds, and
rounds of all kinds take turns. `least` is the round that other programs disturbed least.

empty       the pipeline alone: the handler returns an answer that was made before.
heartbeat   Heartbeat. With `on the stream`, as frames of SubscribeInbox.
read        GetWorkspace, one statement on a connection of the pool.
delegate    Delegate to a workspace in poll mode, without an open stream.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import uvloop
from google.protobuf.message import Message
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation_pb
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Agent, durable_postgres, make_agents
from molecule_grpc.app import App, application
from molecule_grpc.server.call import Call
from molecule_grpc.server.methods import Method
from molecule_grpc.server.process.logs import configure
from molecule_grpc.settings.settings import Settings

CALLERS = 64
_WORKSPACE = "/moleculeai.workspace.v1.WorkspaceService/"
_DELEGATION = "/moleculeai.delegation.v1.DelegationService/"
# What agents send besides their token.
_HEADERS = (
    ("user-agent", "grpc-python-asyncio/1.85.3 grpc-c/53.0.0 (linux; chttp2)"),
    ("x-request-id", "01a22830-fd6b-7c3e-9a52-5f1f1f1c7a10"),
    ("x-forwarded-for", "192.0.2.17"),
)

Once = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table: one thing to do for each caller."""

    name: str
    of_callers: list[Once]


class _StreamOfBeats:
    """An open SubscribeInbox stream whose client sends heartbeats."""

    def __init__(self, app: App, method: Method, agent: Agent) -> None:
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()
        self._frame = _beat_frame(agent)
        self._parse = method.request_type.FromString
        hello = delegation_pb.SubscribeInboxRequest.Hello(
            workspace_id=str(agent.id), consumer_id="bench", max_in_flight=16
        )
        self._frames.put_nowait(
            delegation_pb.SubscribeInboxRequest(hello=hello).SerializeToString()
        )
        self._answers = app.pipeline.stream(method, self._requests(), _call(agent))

    async def open(self) -> None:
        await anext(self._answers)

    async def beat(self) -> None:
        self._frames.put_nowait(self._frame)
        await anext(self._answers)

    async def close(self) -> None:
        await self._answers.aclose()

    async def _requests(self) -> AsyncIterator[Message]:
        while True:
            yield self._parse(await self._frames.get())


def _beat_frame(agent: Agent) -> bytes:
    beat = workspace_pb.HeartbeatRequest(workspace_id=str(agent.id), active_tasks=1)
    return delegation_pb.SubscribeInboxRequest(heartbeat=beat).SerializeToString()


def _call(agent: Agent) -> Call:
    metadata = (*_HEADERS, *agent.metadata)
    return Call(metadata=dict(metadata), remaining=lambda: None)


def _unary(app: App, method: Method, agent: Agent, request: Message) -> Once:
    data, parse = request.SerializeToString(), method.request_type.FromString

    async def once() -> None:
        await app.pipeline.unary(method, parse(data), _call(agent))

    return once


def _empty(method: Method, answer: Message) -> Method:
    async def handler(_request: Message, _call: Call) -> Message:
        return answer

    return replace(method, handler=handler)


def _kinds(app: App, agents: list[Agent], streams: list[_StreamOfBeats]) -> list[Kind]:
    methods = {method.path: method for method in app.methods}
    beat = methods[_WORKSPACE + "Heartbeat"]
    read = methods[_WORKSPACE + "GetWorkspace"]
    delegate = methods[_DELEGATION + "Delegate"]
    callers, callees = agents[:CALLERS], agents[CALLERS:]
    beats = [workspace_pb.HeartbeatRequest(workspace_id=str(a.id), active_tasks=1) for a in callers]
    reads = [workspace_pb.GetWorkspaceRequest(workspace_id=str(a.id)) for a in callers]
    tasks = [
        delegation_pb.DelegateRequest(workspace_id=str(a.id), target_id=str(b.id), task="x" * 200)
        for a, b in zip(callers, callees, strict=True)
    ]
    alive = workspace_pb.HeartbeatResponse(
        status="ok",
        platform_inbound_secret="x" * 43,
        workspace_status=workspace_pb2.Workspace.online,
    )
    accepted = delegation_pb.DelegateResponse(delegation_id=str(agents[0].id))
    found = workspace_pb2.Workspace(id=str(agents[0].id), name="x" * 36)

    def kind(name: str, method: Method, requests: list[Any]) -> Kind:
        pairs = zip(callers, requests, strict=True)
        return Kind(name, [_unary(app, method, agent, request) for agent, request in pairs])

    return [
        kind("heartbeat, empty", _empty(beat, alive), beats),
        kind("read, empty", _empty(read, found), reads),
        kind("delegate, empty", _empty(delegate, accepted), tasks),
        kind("heartbeat", beat, beats),
        Kind("heartbeat, on the stream", [stream.beat for stream in streams]),
        kind("read", read, reads),
        kind("delegate", delegate, tasks),
    ]


async def _round(kind: Kind, calls: int) -> float:
    """Microseconds of this thread's CPU for a call."""
    each = max(1, calls // len(kind.of_callers))

    async def repeat(once: Once) -> None:
        for _ in range(each):
            await once()

    before = time.thread_time()
    await asyncio.gather(*map(repeat, kind.of_callers))
    return (time.thread_time() - before) / (each * len(kind.of_callers)) * 1e6


async def measure(dsn: str, *, rounds: int, calls: int) -> dict[str, list[float]]:
    """Microseconds of CPU for a call, by kind, one figure for each round."""
    agents = await make_agents(dsn, 3 * CALLERS)
    environment = {
        "DATABASE_URL": dsn,
        "MOLECULE_INBOX_MAX_ITEMS": "1000000000",
        "MOLECULE_INBOX_MAX_BYTES": "1000000000000",
    }
    async with application(Settings.from_env(environment), dsn, "bench") as app:
        (subscribe,) = (m for m in app.methods if m.path == _DELEGATION + "SubscribeInbox")
        streams = [_StreamOfBeats(app, subscribe, agent) for agent in agents[2 * CALLERS :]]
        await asyncio.gather(*(stream.open() for stream in streams))
        kinds = _kinds(app, agents[: 2 * CALLERS], streams)
        figures: dict[str, list[float]] = {}
        for number in range(rounds + 1):
            for kind in kinds:
                cost = await _round(kind, calls)
                if number:  # round 0 only warms up
                    figures.setdefault(kind.name, []).append(cost)
        await asyncio.gather(*(stream.close() for stream in streams))
    return figures


def _table(figures: dict[str, list[float]]) -> Table:
    table = Table(title=f"CPU of this thread for one call, µs; {CALLERS} callers at once")
    for heading in ("call", "least", "median"):
        table.add_column(heading, justify="left" if heading == "call" else "right")
    for name, values in figures.items():
        table.add_row(name, f"{min(values):.1f}", f"{statistics.median(values):.1f}")
    return table


def main() -> None:
    """Entry of `python -m benchmarks.call`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=2000)
    arguments = parser.parse_args()
    configure("error")
    with durable_postgres() as dsn:
        figures = uvloop.run(measure(dsn, rounds=arguments.rounds, calls=arguments.calls))
    Console().print(_table(figures))


if __name__ == "__main__":
    main()
