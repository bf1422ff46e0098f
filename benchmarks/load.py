"""A whole installation under the load of a large fleet, for minutes, through the whole edge.

    python -m benchmarks.load [--minutes 10] [--agents 10000] [--streams 5000] [--restart]

10,000 agents of ten organisations send a heartbeat every 20 s, each as a call; 5,000 of them hold
their SubscribeInbox stream open and hand 200 delegations a second to one another, from Delegate
over the callee's stream and UpdateDelegation to the caller's stream. Two serving processes; a
hundred agents share a connection. Two client processes make the load on the same machine; every
call that fails is an error.

Memory is the proportional set size of every process: up, serving processes and edge in one sum,
Postgres in another. KiB a stream is what the former grew by while all streams were opened at once.
With --restart the serving processes are replaced one after the other in the middle of the run.

Targets: p99 of all calls 100 ms, 1.5 GB in all, no error, no delegation lost; 5,000 streams opened
at once without a refusal, at most 60 KiB each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Agent, durable_postgres, make_agents, make_organization, percentile
from benchmarks.installations import installation
from tests.running import RunningServer

_ORGANIZATIONS = 10
_DELEGATIONS = 200
_EVERY_SECONDS = 20.0
_PROCESSES = "2"
_LOOK_SECONDS = 5.0
_OPEN_SECONDS = 180.0
_FINISH_SECONDS = 120.0
_MIB = 1024 * 1024
_P99_MS, _ALL_MIB, _STREAM_KIB = 100.0, 1536.0, 60.0


@dataclass(slots=True)
class Memory:
    """Proportional set sizes in MiB, the largest of all looks."""

    installation: int
    postmaster: int
    ours: float = 0.0
    postgres: float = 0.0
    total: float = 0.0

    def look(self) -> float:
        """Measure now; MiB of the installation."""
        ours, postgres = _held(self.installation), _held(self.postmaster)
        self.ours, self.postgres = max(self.ours, ours), max(self.postgres, postgres)
        self.total = max(self.total, ours + postgres)
        return ours

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look every 5 s."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(_LOOK_SECONDS)


def _held(root: int) -> float:
    """MiB of a process and all its descendants; shared pages are divided among who shares them."""
    process, total = psutil.Process(root), 0.0
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += each.memory_full_info().pss / _MIB
    return total


class Client:
    """One client process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, plan: dict[str, Any]) -> AsyncIterator[Client]:
        """A process that has its plan; killed at the end."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.load_clients"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=2**28,
        )
        client = cls(process)
        await client.say(json.dumps(plan))
        try:
            yield client
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def say(self, text: str) -> None:
        """Write a line to the process."""
        assert self._process.stdin
        self._process.stdin.write(text.encode() + b"\n")
        await self._process.stdin.drain()

    async def hear(self, seconds: float) -> dict[str, Any]:
        """The next line of the process. Raises TimeoutError."""
        assert self._process.stdout
        async with asyncio.timeout(seconds):
            line = await self._process.stdout.readline()
        assert line, "a client process failed"
        heard: dict[str, Any] = json.loads(line)
        return heard


@dataclass(slots=True)
class Report:
    """What a run saw."""

    opened: dict[str, Any] = field(default_factory=dict)
    stream_kib: float = 0.0
    beats: dict[str, Any] = field(default_factory=dict)
    crowd: dict[str, Any] = field(default_factory=dict)
    restart: str = ""


async def measure(arguments: argparse.Namespace, dsn: str) -> Table:
    """Run the load; the table of figures and targets."""
    agents = await _fleet(dsn, arguments.agents)
    connection = await asyncpg.connect(dsn)
    postmaster = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()")).ppid()
    await connection.close()
    with tempfile.TemporaryDirectory() as directory:
        async with installation(dsn, Path(directory) / "load", WORKERS=_PROCESSES) as server:
            memory, report = Memory(server.pid, postmaster), Report()
            async with memory.watched():
                await _run(arguments, server, agents, memory, report)
    return _table(arguments, memory, report)


async def _fleet(dsn: str, count: int) -> list[Agent]:
    """Agents of ten organisations; those of one stand together."""
    made: list[Agent] = []
    for _ in range(_ORGANIZATIONS):
        organization = await make_organization(dsn)
        made += await make_agents(dsn, count // _ORGANIZATIONS, organization)
    return made


async def _run(
    arguments: argparse.Namespace,
    server: RunningServer,
    agents: list[Agent],
    memory: Memory,
    report: Report,
) -> None:
    seconds = arguments.minutes * 60
    plan = {"target": server.grpc_target, "seconds": seconds}
    everybody = [(str(agent.id), agent.token) for agent in agents]
    share = arguments.streams // _ORGANIZATIONS
    of_each = len(everybody) // _ORGANIZATIONS
    streaming = [
        agent
        for begin in range(0, len(everybody), of_each)
        for agent in everybody[begin : begin + share]
    ]
    before = await asyncio.to_thread(memory.look)
    async with (
        Client.started(
            plan | {"work": "crowd", "agents": streaming, "rate": arguments.delegations}
        ) as crowd,
        Client.started(
            plan | {"work": "beats", "agents": everybody, "every": _EVERY_SECONDS}
        ) as beats,
    ):
        report.opened = await crowd.hear(_OPEN_SECONDS)
        grown = await asyncio.to_thread(memory.look) - before
        report.stream_kib = grown * 1024 / len(streaming)
        await beats.hear(_OPEN_SECONDS)
        await asyncio.gather(crowd.say("go"), beats.say("go"))
        if arguments.restart:
            await asyncio.sleep(seconds / 2)
            report.restart = await asyncio.to_thread(rolling_restart, server)
        report.beats = await beats.hear(seconds + _FINISH_SECONDS)
        report.crowd = await crowd.hear(seconds + _FINISH_SECONDS)


def rolling_restart(server: RunningServer) -> str:
    """Replace the serving processes one after the other with `molecule-grpc restart`."""
    command = [sys.executable, "-m", "molecule_grpc.cli.main", "restart"]
    environment = {
        **os.environ,
        "MOLECULE_DATA_DIR": str(server.data_dir),
        "PORT": str(server.port),
        "DATABASE_URL": server.database_url,
        "ADMIN_TOKEN": server.admin_token,
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "No such command" in done.stderr:
        return "SKIPPED: this version has no command for it"
    return "done" if done.returncode == 0 else f"failed: {done.stderr.strip()[-200:]}"


def _table(arguments: argparse.Namespace, memory: Memory, report: Report) -> Table:
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    table = Table(
        title=f"{arguments.agents:,} agents, {arguments.streams:,} streams, "
        f"{arguments.delegations} delegations/s, {arguments.minutes} min",
        caption=f"load average of the machine, with this benchmark: {loads}",
    )
    for heading in ("figure", "value", "target"):
        table.add_column(heading)
    for row in _figures(memory, report):
        table.add_row(*row)
    return table


def _figures(memory: Memory, report: Report) -> list[tuple[str, str, str]]:
    beats, crowd = report.beats["took"], report.crowd["took"]
    loops = report.crowd["loops"]
    errors = Counter(report.beats["errors"]) + Counter(report.crowd["errors"])
    p99 = percentile(beats + crowd, 0.99)
    refused, lost = report.opened["refused"], report.crowd["lost"]
    return [
        ("calls", f"{len(beats) + len(crowd):,}", ""),
        ("p99 of all calls, ms", f"{p99:.1f}", _verdict(p99, _P99_MS)),
        ("p50, p99 of heartbeats, ms", _pair(beats), ""),
        ("p50, p99 of delegate and complete, ms", _pair(crowd), ""),
        ("p50, p99 from delegate to the result, ms", _pair(loops), ""),
        ("errors", json.dumps(errors) if errors else "0", _verdict(errors.total(), 0)),
        ("delegations completed", f"{len(loops):,}", ""),
        ("delegations lost", f"{lost}", _verdict(lost, 0)),
        ("streams that ended and came back", f"{report.crowd['reopened']:,}", ""),
        ("streams opened at once, s", f"{report.opened['seconds']:.1f}", ""),
        ("of them refused", f"{refused}", _verdict(refused, 0)),
        ("KiB a stream", f"{report.stream_kib:.0f}", _verdict(report.stream_kib, _STREAM_KIB)),
        ("most MiB: up, processes, edge", f"{memory.ours:.0f}", ""),
        ("most MiB: Postgres", f"{memory.postgres:.0f}", ""),
        ("most MiB in all", f"{memory.total:.0f}", _verdict(memory.total, _ALL_MIB)),
        *([("rolling restart", report.restart, "")] if report.restart else []),
    ]


def _pair(took: list[float]) -> str:
    return f"{percentile(took, 0.5):.1f}, {percentile(took, 0.99):.1f}"


def _verdict(value: float, most: float) -> str:
    return f"{most:g}: {'met' if value <= most else 'MISSED'}"


def main() -> None:
    """Entry of `python -m benchmarks.load`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--streams", type=int, default=5_000)
    parser.add_argument("--delegations", type=int, default=_DELEGATIONS)
    parser.add_argument("--restart", action="store_true")
    arguments = parser.parse_args()
    with durable_postgres() as dsn:
        table = asyncio.run(measure(arguments, dsn))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
