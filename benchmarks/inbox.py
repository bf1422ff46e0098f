"""From durable append to client: latency over open streams, memory of an idle stream.

    python -m benchmarks.inbox [--seconds 5] [--runs 3] [--streams 1,100,1000,5000]

One process holds the server's whole application and appends through its use case at a steady
rate; a second process holds the client side of the streams over real gRPC. Both read the
machine's monotonic clock. With `two workers` another worker serves the streams, so that every
wake-up crosses by NOTIFY. The table shows medians of several runs: a single checkpoint or
autovacuum of Postgres decides the p99 of its run.
Targets at 1,000 streams and 2,000 messages/s: p50 1 ms, p99 5 ms in one process and 10 ms across.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import psutil
import uvloop
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import delegation_service_pb2_grpc as stubs
from rich.console import Console
from rich.table import Table

from benchmarks.harness import (
    ADMIN_TOKEN,
    Agent,
    dismiss,
    durable_postgres,
    free_port,
    make_agents,
    percentile,
    workers,
)
from molecule_grpc.app import App, application
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.server.hosts.grpc_aio import OPTIONS, add_methods
from molecule_grpc.server.hosts.scheduling import poller_affinity
from molecule_grpc.server.process.garbage_collection import freeze_startup_objects
from tests.settings import settings_of

_SETTINGS = settings_of(
    auth_admin_token=ADMIN_TOKEN,
    inbox_max_items=10**9,
    inbox_max_bytes=10**12,
)
_MAX_CHANNEL_STREAMS = 1000


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of one run: messages per second, latencies in milliseconds, KiB per stream."""

    mode: str
    rate: float
    p50: float
    p99: float
    stream_kib: float


@contextlib.asynccontextmanager
async def _served(dsn: str) -> AsyncIterator[tuple[App, str]]:
    async with application(_SETTINGS, dsn, f"bench-{new_id().hex[-6:]}") as app:
        server = grpc.aio.server(options=OPTIONS)
        add_methods(server, app.methods, app.pipeline, app.unread)
        target = f"127.0.0.1:{free_port()}"
        server.add_insecure_port(target)
        await server.start()
        freeze_startup_objects()
        following = asyncio.create_task(poller_affinity().run())
        yield app, target
        following.cancel()
        await server.stop(0)


class Reader:
    """The process with the clients: opens the streams, reports the latencies when stopped."""

    def __init__(self, target: str, agents: list[Agent]) -> None:
        self._input = json.dumps([target, [(str(a.id), a.token) for a in agents]])
        self._process: asyncio.subprocess.Process | None = None

    async def open(self) -> None:
        """Return when every stream has received its welcome frame."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.inbox",
            "--reader",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=2**26,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(self._input.encode() + b"\n")
        assert (await self._process.stdout.readline()).strip() == b"open"

    async def close(self) -> list[float]:
        """Stop the process; return the latency of every item in milliseconds."""
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b"stop\n")
        seen: list[float] = json.loads(await self._process.stdout.readline())
        await self._process.wait()
        return seen


async def _read() -> None:
    """The reader process, without garbage collection: its pauses would count as the server's."""
    gc.disable()
    loop = asyncio.get_running_loop()
    target, agents = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    latencies: list[float] = []
    welcomed = asyncio.Semaphore(0)
    channels: list[grpc.aio.Channel] = []

    async def follow(channel: grpc.aio.Channel, workspace_id: str, token: str) -> None:
        request = pb.StreamInboxRequest(workspace_id=workspace_id)
        metadata = (("authorization", f"Bearer {token}"),)
        async for frame in stubs.DelegationServiceStub(channel).StreamInbox(
            request, metadata=metadata
        ):
            if frame.HasField("item"):
                latencies.append(time.monotonic() * 1000 - float(frame.item.text))
            elif frame.HasField("welcome"):
                welcomed.release()

    tasks = []
    for index, (workspace_id, token) in enumerate(agents):
        if index % _MAX_CHANNEL_STREAMS == 0:
            options = (("grpc.use_local_subchannel_pool", 1),)
            channels.append(grpc.aio.insecure_channel(target, options=options))
        tasks.append(asyncio.create_task(follow(channels[-1], workspace_id, token)))
    for _ in agents:
        await welcomed.acquire()
    print("open", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    for task in tasks:
        task.cancel()
    print(json.dumps(latencies), flush=True)


async def _append(app: App, agents: list[Agent], *, rate: float, seconds: float) -> int:
    """Append at `rate` per second, round robin; return how many were made durable."""
    pending: set[asyncio.Task[None]] = set()
    start, sent = time.monotonic(), 0

    async def one(agent: Agent) -> None:
        body = json.dumps({"parts": [{"kind": "text", "text": str(time.monotonic() * 1000)}]})
        await app.delegation.floors.records.append(
            Entry(
                workspace_id=agent.id,
                activity_id=new_id(),
                activity_type="a2a_receive",
                method="message/send",
                target_id=agent.id,
                request_body=body,
                message_id=new_id().hex,
                bytes=len(body),
            )
        )

    while (elapsed := time.monotonic() - start) < seconds:
        for _ in range(int(elapsed * rate) - sent):
            task = asyncio.create_task(one(agents[sent % len(agents)]))
            pending.add(task)
            task.add_done_callback(pending.discard)
            sent += 1
        await asyncio.sleep(0.001)  # the loop's shortest sleep: less is a busy wait
    await asyncio.gather(*pending)
    return sent


async def run(dsn: str, streams: int, *, rate: float, seconds: float, two: bool) -> Result:
    """One run: so many streams, `rate` messages a second in all."""
    agents = await make_agents(dsn, streams)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(dismiss, dsn, agents)
        app, target = await stack.enter_async_context(_served(dsn))
        holder = psutil.Process()
        if two:
            (other,) = await stack.enter_async_context(workers(dsn))
            holder, target = psutil.Process(other.pid), other.target
        before = holder.memory_info().rss
        reader = Reader(target, agents)
        await reader.open()
        memory = (holder.memory_info().rss - before) / 1024 / streams
        sent = await _append(app, agents, rate=rate, seconds=seconds)
        await asyncio.sleep(0.5)
        seen = await reader.close()
    assert len(seen) == sent, f"{len(seen)} of {sent} arrived"
    return Result(
        "two workers" if two else "one worker",
        sent / seconds,
        percentile(seen, 0.5),
        percentile(seen, 0.99),
        memory,
    )


async def measure(dsn: str, streams: list[int], *, seconds: float, runs: int) -> Table:
    """The table: medians of `runs` runs, and the lowest and highest p99."""
    table = Table(title="Durable append to client")
    for heading in ("streams", "mode", "messages/s", "p50 ms", "p99 ms", "of runs", "KiB a stream"):
        table.add_column(heading, justify="right")
    for count in streams:
        for two in (False, True):
            rate = min(2000.0, 200.0 * count)
            done = [await run(dsn, count, rate=rate, seconds=seconds, two=two) for _ in range(runs)]
            p99s = [one.p99 for one in done]
            table.add_row(
                f"{count:,}",
                done[0].mode,
                f"{done[0].rate:,.0f}",
                f"{statistics.median(one.p50 for one in done):.2f}",
                f"{statistics.median(p99s):.2f}",
                f"{min(p99s):.1f}-{max(p99s):.1f}",
                f"{statistics.median(one.stream_kib for one in done):.0f}" if count >= 100 else "",
            )
    return table


def main() -> None:
    """Entry of `python -m benchmarks.inbox`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--streams", default="1,100,1000,5000")
    arguments = parser.parse_args()
    if arguments.reader:
        uvloop.run(_read())
        return
    streams = [int(text) for text in arguments.streams.split(",")]
    with durable_postgres() as dsn:
        table = uvloop.run(measure(dsn, streams, seconds=arguments.seconds, runs=arguments.runs))
    Console().print(table)


if __name__ == "__main__":
    main()
