"""Readers of the feed of events: statements and CPU that they cost, and latency to the client.

    python -m benchmarks.events [--readers 1000] [--seconds 10] [--rates 0,100]

One worker holds the readers, each with the token of a workspace of its own; another process opens
their streams. Events are written straight into the table, round robin, with the wake-up that a
worker of the fleet would send. Statements and CPU time are those of the worker (and of Postgres on
its behalf), less the same figures at the same rate without readers. Both processes read the
machine's monotonic clock.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time
from dataclasses import dataclass

import asyncpg
import grpc
import psutil
import uvloop
from moleculeai.delegation.v1 import delegation_service_pb2_grpc as stubs
from moleculeai.delegation.v1 import event_pb2
from rich.console import Console
from rich.table import Table

from benchmarks.harness import (
    ORGANIZATION,
    Agent,
    Worker,
    cpu_seconds,
    dismiss,
    durable_postgres,
    make_agents,
    percentile,
    workers,
)
from molecule_grpc.db.pool import connect
from molecule_grpc.db.wakeups import CHANNEL
from molecule_grpc.events.store import CHANNEL_ALL

_STREAMS_PER_CHANNEL = 500
# Postgres counts the statements of a busy backend within a second, those of an idle one within ten.
_BUSY_SECONDS, _IDLE_SECONDS = 1.5, 11.0
_WARM_UP = "-1"

_WRITE = """
    INSERT INTO live_events (id, event_type, organization_id, workspace_id, payload)
    SELECT gen_random_uuid(), 'ACTIVITY_LOGGED', $1, each, jsonb_build_object('summary', $3::text)
    FROM unnest($2::uuid[]) AS each
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Statements and CPU seconds spent in a second."""

    statements: float
    worker: float
    postgres: float

    def less(self, other: Cost) -> Cost:
        """This cost less the other."""
        return Cost(
            self.statements - other.statements,
            self.worker - other.worker,
            self.postgres - other.postgres,
        )


class Readers:
    """The process with the clients: follows the feed with each token, reports the latencies."""

    def __init__(self, target: str, agents: list[Agent]) -> None:
        self._input = json.dumps([target, [agent.token for agent in agents]])
        self._process: asyncio.subprocess.Process | None = None

    async def open(self, connection: asyncpg.Connection, agents: list[Agent]) -> None:
        """Return when every stream has received an event: a stream is silent before its first."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.events",
            "--reader",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=2**26,
        )
        self._say(self._input)
        opened = asyncio.create_task(self._heard())
        while not opened.done():
            await _write(connection, agents, _WARM_UP)
            await asyncio.wait({opened}, timeout=1)
        assert opened.result() == "open"

    async def close(self) -> list[float]:
        """Stop the process; return the latency of every event in milliseconds."""
        assert self._process
        self._say("stop")
        seen: list[float] = json.loads(await self._heard())
        await self._process.wait()
        return seen

    def _say(self, line: str) -> None:
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(line.encode() + b"\n")

    async def _heard(self) -> str:
        assert self._process
        assert self._process.stdout
        return (await self._process.stdout.readline()).decode().strip()


async def _read() -> None:
    """The reader process, without garbage collection: its pauses would count as the server's."""
    gc.disable()
    loop = asyncio.get_running_loop()
    target, tokens = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    latencies: list[float] = []
    opened = asyncio.Semaphore(0)
    channels: list[grpc.aio.Channel] = []

    async def follow(channel: grpc.aio.Channel, token: str) -> None:
        stub = stubs.DelegationServiceStub(channel)
        call = stub.SubscribeEvents(
            event_pb2.SubscribeEventsRequest(), metadata=(("authorization", f"Bearer {token}"),)
        )
        first = True
        async for frame in call:
            if frame.HasField("event"):
                summary = str(frame.event.payload.struct_value["summary"])
                if summary != _WARM_UP:
                    latencies.append(time.monotonic() * 1000 - float(summary))
                if first:
                    opened.release()
                first = False

    tasks = []
    for index, token in enumerate(tokens):
        if index % _STREAMS_PER_CHANNEL == 0:
            options = (("grpc.use_local_subchannel_pool", 1),)
            channels.append(grpc.aio.insecure_channel(target, options=options))
        tasks.append(asyncio.create_task(follow(channels[-1], token)))
    for _ in tokens:
        await opened.acquire()
    print("open", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    for task in tasks:
        task.cancel()
    print(json.dumps(latencies), flush=True)


async def _write(connection: asyncpg.Connection, agents: list[Agent], summary: str) -> None:
    """Write an event of each of these workspaces, then announce the news."""
    await connection.execute(_WRITE, ORGANIZATION, [agent.id for agent in agents], summary)
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, f"bench {CHANNEL_ALL.hex}")


async def _write_at(
    connection: asyncpg.Connection, agents: list[Agent], *, rate: float, seconds: float
) -> int:
    """Write events at a steady rate; return how many were written."""
    start, written = time.monotonic(), 0
    while (elapsed := time.monotonic() - start) < seconds:
        if written < int(elapsed * rate):
            agent = agents[written % len(agents)]
            await _write(connection, [agent], str(time.monotonic() * 1000))
            written += 1
        else:
            await asyncio.sleep(0.001)
    return written


async def _cost(
    connection: asyncpg.Connection,
    worker: Worker,
    agents: list[Agent],
    *,
    rate: float,
    seconds: float,
) -> Cost:
    """The cost of writing at this rate, of the worker and of Postgres."""
    backend = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
    server = backend.ppid()

    async def statements() -> int:
        return int(
            await connection.fetchval(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            )
        )

    await asyncio.sleep(_IDLE_SECONDS)
    before = await statements()
    start, worker_before, server_before = (
        time.monotonic(),
        worker.cpu_seconds(),
        cpu_seconds(server),
    )
    written = await _write_at(connection, agents, rate=rate, seconds=seconds)
    lasted = time.monotonic() - start
    worker_after, server_after = worker.cpu_seconds(), cpu_seconds(server)
    await asyncio.sleep(_BUSY_SECONDS)
    after = await statements()
    return Cost(
        (after - before - 2 * written) / (lasted + _BUSY_SECONDS),
        (worker_after - worker_before) / lasted,
        (server_after - server_before) / lasted,
    )


async def measure(dsn: str, count: int, rates: list[float], *, seconds: float) -> Table:
    """The table: a row for each rate of events."""
    table = Table(title=f"The feed of events, {count:,} readers")
    for heading in ("events/s", "statements/s", "worker CPU", "Postgres CPU", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    connection = await connect(dsn)
    agents = await make_agents(dsn, count)
    async with workers(dsn) as (worker,):
        alone = [
            await _cost(connection, worker, agents, rate=rate, seconds=seconds) for rate in rates
        ]
        for rate, before in zip(rates, alone, strict=True):
            readers = Readers(worker.target, agents)
            await readers.open(connection, agents)
            with_them = await _cost(connection, worker, agents, rate=rate, seconds=seconds)
            cost = with_them.less(before)
            seen = await readers.close()
            table.add_row(
                f"{rate:,.0f}",
                f"{cost.statements:,.1f}",
                f"{cost.worker:.1%}",
                f"{cost.postgres:.1%}",
                f"{percentile(seen, 0.5):.1f}" if seen else "",
                f"{percentile(seen, 0.99):.1f}" if seen else "",
            )
    await dismiss(dsn, agents)
    await connection.close()
    return table


def main() -> None:
    """Entry of `python -m benchmarks.events`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--readers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rates", default="0,100")
    arguments = parser.parse_args()
    if arguments.reader:
        uvloop.run(_read())
        return
    rates = [float(text) for text in arguments.rates.split(",")]
    with durable_postgres() as dsn:
        table = uvloop.run(measure(dsn, arguments.readers, rates, seconds=arguments.seconds))
    Console().print(table)


if __name__ == "__main__":
    main()
