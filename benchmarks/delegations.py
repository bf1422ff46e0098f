"""The whole loop: delegate, accept, the callee's stream, complete, the caller's stream.

    python -m benchmarks.delegations [--seconds 4] [--rounds 3] [--pairs 32] [--depth 4]

Variants take turns in one run, all on this machine; a ratio is the median over the rounds.

streams   One worker process over Postgres with fsync, called without the edge. Pairs of agents,
          each with a connection and a SubscribeInbox stream of its own: the caller delegates, the
          callee completes and acks each item of its stream, the caller acks the result. Every
          step is committed before it is answered: the delegation, the end, and both inbox items.
polling   The same server and steps; both sides read with PullInbox every 5 s, as REST agents do,
          starting at a random moment, and ack by raising `after_seq`. The window is 20 s. Pairs x
          depth bounds the delegations in flight, so compare the latency, not the rate.
temporal  Temporal's development server (`temporal server start-dev`), its Python SDK, one workflow
          with one echoing activity for each task. On a SQLite file, Temporal's only durable store
          here: one at a time and 4 at once (more at once is slower). In memory, where a crash loses
          everything: 16 and 64 at once. One worker process with 16 pollers of either kind and room
          for 1,000 workflow tasks and activities. A loop is `execute_workflow`, start to result.

Not comparable: the development server says nothing about Temporal on a cluster. A workflow keeps
a history of events and can do far more than a delegation; a delegation reaches the inbox of
another party that holds a token of its own.

The two heartbeat rows send heartbeats of 64 agents, one at a time each, as unary calls and over
the open SubscribeInbox streams.

All clients share one process that runs no server code; CPU is shown for each side in cores
(1.00 is one core busy all the time). The Temporal rows need more packages (see `_MISSING`).
Targets: p50 5 ms one at a time; 1,500 loops/s in flight on two cores with everything on them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import importlib.util
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import psutil
import uvloop
from moleculeai.delegation.v1 import delegation_pb2, inbox_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import delegation_service_pb2_grpc as stubs
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb
from moleculeai.workspace.v1 import workspace_service_pb2_grpc as workspace_stubs
from rich.console import Console
from rich.table import Table

from benchmarks.clients import Result, run_client
from benchmarks.harness import (
    Agent,
    cpu_seconds,
    durable_postgres,
    free_port,
    make_agents,
    workers,
)

_MISSING = ".venv/bin/pip install --require-hashes -r requirements/peers.lock"
_TASK = "x" * 200
_POLL_SECONDS = 5.0
_POLL_WINDOW = 20.0
_BEATERS = 64


# The clients' process


class Party:
    """An agent with a connection of its own that reads its inbox by stream or by polling."""

    def __init__(self, target: str, workspace_id: str, token: str) -> None:
        channel = grpc.aio.insecure_channel(
            target, options=(("grpc.use_local_subchannel_pool", 1),)
        )
        self.id = workspace_id
        self.rpc = stubs.DelegationServiceStub(channel)
        self.workspaces = workspace_stubs.WorkspaceServiceStub(channel)
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.stream: Any = None

    async def open(self) -> None:
        """Open the inbox stream; return after its welcome frame."""
        self.stream = self.rpc.SubscribeInbox(metadata=self.metadata)
        hello = pb.SubscribeInboxRequest.Hello(
            workspace_id=self.id, consumer_id="bench", max_in_flight=256, takeover=True
        )
        await self.stream.write(pb.SubscribeInboxRequest(hello=hello))
        assert (await self.stream.read()).HasField("welcome")

    async def items(self) -> AsyncIterator[inbox_pb2.InboxItem]:
        """Items of the stream; each is acked when the next one is requested."""
        while (answer := await self.stream.read()) is not grpc.aio.EOF:
            if answer.HasField("item"):
                yield answer.item
                ack = inbox_pb2.Ack(up_to_seq=answer.item.seq)
                await self.stream.write(pb.SubscribeInboxRequest(ack=ack))

    async def polled(self) -> AsyncIterator[inbox_pb2.InboxItem]:
        """Items found by PullInbox every 5 s, starting at a random moment."""
        seen = 0
        await asyncio.sleep(random.uniform(0, _POLL_SECONDS))
        while True:
            request = pb.PullInboxRequest(workspace_id=self.id, after_seq=seen, limit=100)
            page = await self.rpc.PullInbox(request, metadata=self.metadata)
            for item in page.items:
                seen = item.seq
                yield item
            await asyncio.sleep(_POLL_SECONDS)

    async def beat(self) -> None:
        """One heartbeat as a call."""
        request = workspace_pb.HeartbeatRequest(workspace_id=self.id, active_tasks=1)
        await self.workspaces.Heartbeat(request, metadata=self.metadata)

    async def beat_on_stream(self) -> None:
        """One heartbeat over the open stream."""
        request = workspace_pb.HeartbeatRequest(workspace_id=self.id, active_tasks=1)
        await self.stream.write(pb.SubscribeInboxRequest(heartbeat=request))
        while not (await self.stream.read()).HasField("heartbeat_result"):
            pass


class Pair:
    """A caller and the callee of all its delegations."""

    def __init__(self, caller: Party, callee: Party, *, polls: bool) -> None:
        self._caller, self._callee = caller, callee
        self._read = Party.polled if polls else Party.items
        # The result item may arrive before Delegate's response names the delegation.
        self._ends: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def complete(self) -> None:
        """Complete every task of the callee's inbox, each in an asyncio task of its own."""
        async with asyncio.TaskGroup() as group:
            async for item in self._read(self._callee):
                if item.method != "delegate_result" and item.delegation_id:
                    group.create_task(self._end(item.delegation_id))

    async def _end(self, delegation_id: str) -> None:
        request = pb.UpdateDelegationRequest(
            workspace_id=self._callee.id,
            delegation_id=delegation_id,
            status=delegation_pb2.Delegation.completed,
            response_preview=_TASK,
        )
        await self._callee.rpc.UpdateDelegation(request, metadata=self._callee.metadata)

    async def collect(self) -> None:
        """Set the event of each delegation whose result arrives in the caller's inbox."""
        async for item in self._read(self._caller):
            if item.method == "delegate_result":
                self._ends[item.delegation_id].set()

    async def loop(self) -> None:
        """Delegate one task and wait until the result is in the caller's inbox."""
        request = pb.DelegateRequest(
            workspace_id=self._caller.id, target_id=self._callee.id, task=_TASK
        )
        made = await self._caller.rpc.Delegate(request, metadata=self._caller.metadata)
        await self._ends[made.delegation_id].wait()
        del self._ends[made.delegation_id]


async def _loops(plan: dict[str, Any]) -> None:
    parties = [Party(plan["target"], *agent) for agent in plan["agents"]]
    if not plan["polls"]:
        await asyncio.gather(*(party.open() for party in parties))
    pairs = [
        Pair(caller, callee, polls=plan["polls"])
        for caller, callee in zip(parties[::2], parties[1::2], strict=True)
    ]
    background = [asyncio.create_task(work()) for p in pairs for work in (p.complete, p.collect)]
    loops = _repeat([p.loop for p in pairs for _ in range(plan["depth"])], plan["seconds"])
    tasks = [asyncio.create_task(loops), *background]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        await task  # the loops, or a background task that raised


async def _beats(plan: dict[str, Any]) -> None:
    parties = [Party(plan["target"], *agent) for agent in plan["agents"]]
    if plan["streams"]:
        await asyncio.gather(*(party.open() for party in parties))
    beat = Party.beat_on_stream if plan["streams"] else Party.beat
    await _repeat([functools.partial(beat, party) for party in parties], plan["seconds"])


async def _repeat(jobs: list[Callable[[], Awaitable[None]]], seconds: float) -> None:
    """Wait for the parent's line, repeat every job for `seconds`, print each run's milliseconds.

    Runs in flight at the end are finished but not counted: no round leaves work to the next.
    """
    took: list[float] = []
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    before, end = time.process_time(), time.monotonic() + seconds

    async def again(job: Callable[[], Awaitable[None]]) -> None:
        while (start := time.monotonic()) < end:
            await job()
            if (now := time.monotonic()) < end:
                took.append((now - start) * 1000)

    tasks = asyncio.gather(*(again(job) for job in jobs))
    await asyncio.sleep(seconds)
    print(json.dumps({"took": took, "cpu": time.process_time() - before}), flush=True)
    await tasks


async def _client() -> None:
    plan = json.loads(sys.stdin.readline())
    work = {"loops": _loops, "beats": _beats}
    await work[plan["work"]](plan)


# The process that measures


async def _theirs(target: str, pid: int, at_once: int, seconds: float) -> Result:
    plan = {"target": target, "at_once": at_once, "seconds": seconds}
    command = [sys.executable, "-m", "benchmarks.temporal_client"]
    return await run_client(command, plan, lambda: (cpu_seconds(pid), 0.0))


@contextlib.asynccontextmanager
async def _temporal(*options: str) -> AsyncIterator[tuple[str, int]]:
    """Temporal's development server: yields its address and process id."""
    target = f"127.0.0.1:{free_port()}"
    server = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("temporal")),
        *("server", "start-dev", "--headless", "--log-level", "never"),
        *("--port", target.rpartition(":")[2], "--http-port", str(free_port())),
        *options,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield target, server.pid
    finally:
        server.terminate()
        await server.wait()


async def measure(arguments: argparse.Namespace, dsn: str) -> list[Table]:
    """The tables of loops and of heartbeats."""
    peers = importlib.util.find_spec("temporalio") is not None
    seconds, pairs, depth = arguments.seconds, arguments.pairs, arguments.depth
    connection = await asyncpg.connect(dsn)
    postmaster = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()")).ppid()
    await connection.close()
    runs: dict[str, list[Result]] = {}
    async with contextlib.AsyncExitStack() as stack:
        (worker,) = await stack.enter_async_context(workers(dsn))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        async def ours(agents: int, **plan: Any) -> Result:
            made = await make_agents(dsn, agents)
            return await run_client(
                [sys.executable, "-m", "benchmarks.delegations", "--client"],
                {"target": worker.target, "agents": _named(made), "seconds": seconds} | plan,
                lambda: (worker.cpu_seconds(), cpu_seconds(postmaster)),
            )

        variants: dict[str, Callable[[], Awaitable[Result]]] = {
            "streams, one at a time": lambda: ours(2, work="loops", depth=1, polls=False),
            "streams, in flight": lambda: ours(2 * pairs, work="loops", depth=depth, polls=False),
            "heartbeat, a call": lambda: ours(_BEATERS, work="beats", streams=False),
            "heartbeat, on the stream": lambda: ours(_BEATERS, work="beats", streams=True),
        }
        if peers:
            file = ("--db-filename", str(directory / "temporal.db"))
            for store, options, counts in (("file", file, (1, 4)), ("memory", (), (16, 64))):
                target, pid = await stack.enter_async_context(_temporal(*options))
                for count in counts:
                    variants[f"temporal, {store}, {count} at once"] = functools.partial(
                        _theirs, target, pid, count, seconds
                    )
        for number in range(arguments.rounds + 1):
            for name, variant in variants.items():
                result = await variant()
                if number:  # round 0 only warms up
                    runs.setdefault(name, []).append(result)
        runs["polling, in flight"] = [
            await ours(2 * pairs, work="loops", depth=depth, polls=True, seconds=_POLL_WINDOW)
        ]
    if not peers:
        print(f"Temporal is left out: its packages are missing. {_MISSING}")
    return [
        _table(
            f"Delegations, {pairs} pairs with {depth} in flight each",
            "streams, in flight",
            {n: r for n, r in runs.items() if "heartbeat" not in n},
        ),
        _table(
            f"Heartbeats of {_BEATERS} agents",
            "heartbeat, a call",
            {n: r for n, r in runs.items() if "heartbeat" in n},
        ),
    ]


def _named(agents: list[Agent]) -> list[tuple[str, str]]:
    return [(str(agent.id), agent.token) for agent in agents]


def _table(title: str, base: str, runs: dict[str, list[Result]]) -> Table:
    table = Table(title=title, caption="server, database, clients: cores in use")
    for heading in ("variant", "/s", "ratio", "p50 ms", "p99 ms", "server", "database", "clients"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for name, results in sorted(runs.items()):
        # Compare rounds of the same number; polling has one round only.
        ratio = statistics.median(
            r.rate / b.rate for r, b in zip(results, runs[base], strict=False)
        )
        table.add_row(
            name,
            f"{_median(results, 'rate'):,.0f}",
            f"{ratio:.3f}",
            f"{_median(results, 'p50'):,.2f}",
            f"{_median(results, 'p99'):,.2f}",
            *(f"{_median(results, side):.2f}" for side in ("server", "database", "client")),
        )
    return table


def _median(results: list[Result], figure: str) -> float:
    values: list[float] = [getattr(result, figure) for result in results]
    return statistics.median(values)


def main() -> None:
    """Entry of `python -m benchmarks.delegations`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--client", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--depth", type=int, default=4)
    arguments = parser.parse_args()
    if arguments.client:
        uvloop.run(_client())
        return
    with durable_postgres() as dsn:
        tables = uvloop.run(measure(arguments, dsn))
    for table in tables:
        Console(width=100).print(table)


if __name__ == "__main__":
    main()
