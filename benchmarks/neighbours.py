"""Nobody's neighbour can hurt them: a victim's latency alone and beside each of thirteen attackers.

    python -m benchmarks.neighbours [--seconds 5] [--rounds 3] [--attacks searches,bodies]

An installation as `molecule-grpc up` starts it, with its default limits, serves two organisations.
The victim makes 100 calls a second: reads over REST, heartbeats, delegations, their arrival in an
open stream, and messages to an agent that is called at its URL. Windows alone and beside the
attacker take turns; the ratio of their p99 is the median of the rounds. Each attacker meets a
server that was just started.

Attackers with a token work for an organisation of their own, strangers have none and come from
another address. Each is a process of its own with the least weight that the kernel gives (nice 19,
its session too) and pauses after each refusal, because client and server share the machine's
cores: what slows the victim shall be the server's work for the attacker, not the attacker's own.
The floor row shows what remains of that: the attacker only spins.

All of it runs in a network namespace of its own, which needs root: its name server never answers,
and agents with a URL listen at a private address that the server is told to call. Memory is the
resident set of all workers and of Envoy: before, at its peak, and when the attacker has been gone
for three seconds.
Targets: p99 at most 1.5 times that of alone (3 times beside 10,000 connections), no failed call of
the victim, at most 256 MiB more memory in the workers and in the edge.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import os
import shutil
import socket
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.harness import (
    dismiss,
    durable_postgres,
    make_agents,
    make_organization,
    percentile,
)
from benchmarks.neighbourhood import members, victim
from benchmarks.neighbourhood.attacker import ATTACKS
from benchmarks.neighbourhood.memory import Memory
from benchmarks.neighbourhood.party import Party
from benchmarks.neighbourhood.site import AGENT_ADDRESS, AGENT_NETWORK, Attack, Site
from molecule_grpc.settings.edge import EdgeSettings
from tests.running import RunningServer

_NAMESERVER = "127.0.0.53"
_IN_NAMESPACE = "MOLECULE_BENCH_SILENT_NAMES"
_LEAD_SECONDS = 2.0
_SETTLE_SECONDS = 3.0
_WARM_UP_SECONDS = 2.0
_MEMORY_BOUND_MIB = 256


@dataclass(slots=True)
class Row:
    """What was measured beside one attacker."""

    attack: Attack
    alone: list[list[float]] = field(default_factory=list)
    beside: list[list[float]] = field(default_factory=list)
    kinds: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    failures: collections.Counter[str] = field(default_factory=collections.Counter)
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    memory: Memory = field(default_factory=Memory)

    @property
    def ratio(self) -> float:
        """p99 beside the attacker to that of alone, the median of the rounds."""
        return statistics.median(
            percentile(beside, 0.99) / percentile(alone, 0.99)
            for alone, beside in zip(self.alone, self.beside, strict=True)
        )

    @property
    def broken(self) -> list[str]:
        """The targets that were missed."""
        missed = []
        if not self.ratio <= self.attack.bound:
            missed.append("p99")
        if self.failures:
            missed.append("failures")
        if self.memory.growth > _MEMORY_BOUND_MIB:
            missed.append("memory")
        return missed

    def worst_kind(self) -> str:
        """The kind of call whose p99 has grown most, and how many times."""
        grown = {
            kind: percentile(beside, 0.99) / percentile(alone, 0.99)
            for kind, (alone, beside) in self.kinds.items()
        }
        name = max(grown, key=lambda kind: grown[kind])
        return f"{name} {grown[name]:.1f}"


class Street:
    """The server, the victim beside it, and room for one attacker after the other."""

    def __init__(self, dsn: str, server: RunningServer, home: Party, seconds: float) -> None:
        self._dsn = dsn
        self._server = server
        self._home = home
        self._seconds = seconds

    async def warm_up(self) -> None:
        """One window that is not counted."""
        self._home.tell(f"{_WARM_UP_SECONDS}\n".encode())
        await self._home.heard()

    async def round(self, row: Row) -> None:
        """A window of calls alone, then a window beside the attacker."""
        await self._window(row, row.alone, 0)
        organization = await make_organization(self._dsn)
        agents = await make_agents(self._dsn, members.AGENTS, organization)
        site = Site(self._server.port, agents)
        async with (
            row.memory.watched(self._server.pid),
            Party.start(site, "attacker", row.attack.name) as attacker,
        ):
            attacker.tell(b"go\n")
            await asyncio.sleep(_LEAD_SECONDS)
            await self._window(row, row.beside, 1)
            attacker.tell(b"stop\n")
            row.outcomes.update(await attacker.heard())
            await asyncio.sleep(_SETTLE_SECONDS)
        await dismiss(self._dsn, agents)

    async def _window(self, row: Row, windows: list[list[float]], side: int) -> None:
        self._home.tell(f"{self._seconds}\n".encode())
        latencies, failures = await self._home.heard()
        windows.append([each for kind in latencies.values() for each in kind])
        for kind, values in latencies.items():
            row.kinds.setdefault(kind, ([], []))[side].extend(values)
        place = "" if side else "alone: "
        row.failures.update({f"{place}{name}": count for name, count in failures.items()})


async def measure(dsn: str, attack: Attack, *, seconds: float, rounds: int) -> Row:
    """Measure beside one attacker, `rounds` times, after a window that warms up."""
    with tempfile.TemporaryDirectory(prefix="molecule-neighbours-") as directory:
        server = RunningServer(
            dsn,
            Path(directory),
            MOLECULE_HOST_MODE="grpc",  # The table tells worker and edge apart.
            MOLECULE_AGENT_NETWORKS=AGENT_NETWORK,
            MOLECULE_STRANGER_CALLS_PER_MINUTE=str(EdgeSettings().stranger_calls_per_minute),
            LOG_LEVEL="error",
        )
        await asyncio.to_thread(server.start)
        try:
            agents = await make_agents(dsn, victim.AGENTS, await make_organization(dsn))
            async with Party.start(Site(server.port, agents), "victim") as home:
                street = Street(dsn, server, home, seconds)
                await street.warm_up()
                row = Row(attack)
                for _ in range(rounds):
                    await street.round(row)
                _explain(row)
                return row
        finally:
            await asyncio.to_thread(server.stop)


def _explain(row: Row) -> None:
    """The attacker's statuses, and each kind of failure that the victim saw."""
    print(f"{row.attack.title}: the attacker saw {dict(row.outcomes)}", flush=True)
    for name, count in row.failures.most_common(8):
        print(f"    victim failed {count} times: {name}", flush=True)


def _median(windows: list[list[float]], share: float) -> float:
    return statistics.median(percentile(window, share) for window in windows)


def table(rows: list[Row]) -> Table:
    """One line for each attacker."""
    made = Table(title="The victim's latency (ms), and memory (MiB)")
    for heading in (
        "attacker",
        "p50 alone",
        "beside",
        "p99 alone",
        "beside",
        "ratio",
        "worst kind",
        "failed",
        "workers",
        "edge",
        "missed",
    ):
        made.add_column(heading, justify="left" if heading == "attacker" else "right")
    for row in rows:
        made.add_row(
            row.attack.title,
            *(
                f"{_median(windows, share):.1f}"
                for share in (0.5, 0.99)
                for windows in (row.alone, row.beside)
            ),
            f"{row.ratio:.2f}",
            row.worst_kind(),
            str(row.failures.total()),
            *row.memory.cells(),
            ", ".join(row.broken),
        )
    return made


@contextlib.contextmanager
def _silent_nameserver() -> Iterator[None]:
    """A name server that receives questions and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((_NAMESERVER, 53))
        yield


def _enter_namespace() -> None:
    """Start this program again in network and mount namespaces of its own.

    There /etc/resolv.conf names the silent name server, and the agents have their address.
    """
    if _IN_NAMESPACE in os.environ:
        return
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        sys.exit("needs root, unshare and ip: the attacks need a network of their own")
    with tempfile.NamedTemporaryFile("w", delete=False, prefix="resolv-") as file:
        file.write(f"nameserver {_NAMESERVER}\n")
    Path(file.name).chmod(0o644)
    script = (
        f"ip link set lo up && ip addr add {AGENT_ADDRESS}/32 dev lo"
        ' && mount --bind "$1" /etc/resolv.conf && rm "$1" && shift && exec "$@"'
    )
    command = ["unshare", "-m", "-n", "sh", "-c", script, "sh", file.name, sys.executable, "-m"]
    os.environ[_IN_NAMESPACE] = "1"
    os.execvp("unshare", [*command, "benchmarks.neighbours", *sys.argv[1:]])


def main() -> None:
    """Entry of `python -m benchmarks.neighbours`; exit status 1: a target was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="of each window")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    arguments = parser.parse_args()
    _enter_namespace()
    attacks = [ATTACKS[name] for name in arguments.attacks.split(",")]
    with _silent_nameserver(), durable_postgres() as dsn:
        rows = [
            uvloop.run(measure(dsn, attack, seconds=arguments.seconds, rounds=arguments.rounds))
            for attack in attacks
        ]
    Console(width=160).print(table(rows))
    sys.exit(any(row.broken for row in rows))


if __name__ == "__main__":
    main()
