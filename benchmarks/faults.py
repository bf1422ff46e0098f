"""Kills, freezes and outages: how long until an installation serves again by itself.

    python -m benchmarks.faults [--faults "kill worker;freeze edge"] [--hosts "grpc;envoy"] [--list]

The real `molecule-grpc up` with its embedded Postgres runs in processes of its own. One agent hands
work to another all the time, and a prober asks twenty times a second for a write. Each fault is
timed from the moment that it happens, or that it passes where it passes by itself, until every
call is answered again; then everything that was accepted must have ended. Root is needed to fill a
disk: the data then lie on a small one in memory. Exit status 1: service did not come back within a
minute, or an accepted delegation has not ended.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.harness import make_agents
from benchmarks.havoc import outages
from benchmarks.havoc.handing import Handing
from benchmarks.havoc.installation import Installation, Onset, installed
from benchmarks.havoc.prober import Prober
from molecule_grpc.db.embedded.processes import send
from tests.small_disk import CannotMountError, small_disk

_BACK_SECONDS = 60.0
_ENDED_SECONDS = 60.0
_FREEZE_SECONDS = 5.0
_DISK_MIB = 600

# Brings a fault about.
Fault = Callable[[Installation], Awaitable[Onset]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one fault.

    Args:
        seconds: until every call was answered; None for more than a minute.
        slowest: seconds of the slowest call that was answered, from a moment before the fault.
        accepted: delegations that were accepted since the installation ran.
        lost: those among them that did not end.
    """

    name: str
    seconds: float | None
    slowest: float
    accepted: int
    lost: int
    remark: str

    @property
    def broken(self) -> bool:
        """Whether a promise was broken."""
        return self.seconds is None or self.lost > 0


def signalled(number: signal.Signals, *processes: str) -> Fault:
    """A signal to processes at one moment, and nothing to undo it."""

    async def strike(installation: Installation) -> Onset:
        struck = [each for name in processes for each in getattr(installation, name)()]
        onset = Onset.now()
        send(number, struck)
        return onset

    return strike


async def freeze_postgres(installation: Installation) -> Onset:
    """SIGSTOP of all its processes for 5 s: the clock starts when they go on."""
    frozen = installation.postgres()
    send(signal.SIGSTOP, frozen)
    await asyncio.sleep(_FREEZE_SECONDS)
    send(signal.SIGCONT, frozen)
    return Onset.now(f"from SIGCONT, after {_FREEZE_SECONDS:.0f} s")


async def power_cut(installation: Installation) -> Onset:
    """SIGKILL of `up`, which takes workers and edge along, and of Postgres; then `up` again."""
    onset = Onset.now("with the start of `up`")
    send(signal.SIGKILL, installation.postgres())
    await asyncio.to_thread(installation.server.restart)
    return onset


FAULTS: dict[str, Fault] = {
    "kill worker": signalled(signal.SIGKILL, "worker"),
    "kill edge": signalled(signal.SIGKILL, "edge"),
    "kill postgres": signalled(signal.SIGKILL, "postmaster"),
    "kill worker, edge and postgres": signalled(signal.SIGKILL, "worker", "edge", "postmaster"),
    "kill everything": power_cut,
    "freeze worker": signalled(signal.SIGSTOP, "worker"),
    "freeze edge": signalled(signal.SIGSTOP, "edge"),
    "freeze postgres": freeze_postgres,
    "object store hangs": outages.object_store,
    "name server hangs": outages.name_server,
}
FULL_DISK = "disk full"
_HOSTS = ("grpc", "envoy")
# Where Envoy has the worker in it, these are the faults of a worker.
_OF_AN_EDGE_ALONE = ("kill edge", "kill worker, edge and postgres", "freeze edge")


async def play(installation: Installation, faults: dict[str, Fault]) -> list[Outcome]:
    """Bring the faults about, one after the other."""
    source, target, probed = await make_agents(installation.dsn, 3)
    url = installation.server.url
    outcomes = []
    async with (
        httpx.AsyncClient(base_url=url) as http,
        Prober(http, probed).asking() as prober,
        Handing(url, source, target).at_work() as handing,
    ):
        for name, fault in faults.items():
            await installation.spare_loaded()
            await prober.steady(time.monotonic(), _BACK_SECONDS)
            outcomes.append(await _bring_about(name, fault, installation, prober, handing))
            _say(outcomes[-1])
    return outcomes


async def _bring_about(
    name: str, fault: Fault, installation: Installation, prober: Prober, handing: Handing
) -> Outcome:
    before = time.monotonic()
    onset = await fault(installation)
    seconds = await prober.steady(onset.clock, _BACK_SECONDS)
    lost = 0 if await handing.ended(_ENDED_SECONDS) else handing.without_end
    return Outcome(name, seconds, prober.slowest(before), handing.accepted, lost, onset.remark)


def _say(outcome: Outcome) -> None:
    Console(stderr=True).print(f"{outcome.name}: {_seconds(outcome.seconds)}", highlight=False)


def _seconds(seconds: float | None) -> str:
    return f"over {_BACK_SECONDS:.0f} s" if seconds is None else f"{seconds:.1f} s"


def _table(host: str, outcomes: list[Outcome]) -> Table:
    table = Table(title=f"Faults, MOLECULE_HOST_MODE={host}")
    for heading in ("fault", "until service", "slowest answer", "accepted", "without end", ""):
        table.add_column(heading)
    for each in outcomes:
        table.add_row(
            each.name,
            _seconds(each.seconds),
            f"{each.slowest:.1f} s",
            f"{each.accepted:,}",
            f"{each.lost:,}",
            each.remark,
        )
    return table


def _run(faults: dict[str, Fault], host: str) -> list[Outcome]:
    with tempfile.TemporaryDirectory(prefix="molecule-faults-") as name:
        s3 = outages.object_store in faults.values()
        with installed(Path(name), s3=s3, MOLECULE_HOST_MODE=host) as installation:
            return asyncio.run(play(installation, faults))


def _run_on_a_small_disk(host: str) -> list[Outcome]:
    with tempfile.TemporaryDirectory(prefix="molecule-faults-") as name:
        directory = Path(name)
        try:
            with (
                small_disk(directory / "data", _DISK_MIB),
                installed(directory, s3=False, MOLECULE_HOST_MODE=host) as installation,
            ):
                return asyncio.run(play(installation, {FULL_DISK: outages.full_disk}))
        except CannotMountError:
            Console(stderr=True).print(f"{FULL_DISK}: left out, this process may not mount")
            return []


def main() -> None:
    """Entry of `python -m benchmarks.faults`."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [*FAULTS, FULL_DISK]
    parser.add_argument("--faults", default=";".join(names), help="names with ; between them")
    parser.add_argument("--hosts", default=";".join(_HOSTS), help="host modes, likewise")
    parser.add_argument("--list", action="store_true", help="print the names")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(names))
        return
    chosen = arguments.faults.split(";")
    if unknown := set(chosen) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    broken = False
    for host in arguments.hosts.split(";"):
        outcomes = _outcomes(host, chosen)
        Console().print(_table(host, outcomes))
        broken = broken or any(outcome.broken for outcome in outcomes)
    sys.exit(broken)


def _outcomes(host: str, chosen: list[str]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    left_out = _OF_AN_EDGE_ALONE if host == "envoy" else ()
    chosen = [name for name in chosen if name not in left_out]
    if faults := {name: fault for name, fault in FAULTS.items() if name in chosen}:
        outcomes += _run(faults, host)
    if FULL_DISK in chosen:
        outcomes += _run_on_a_small_disk(host)
    return outcomes


if __name__ == "__main__":
    main()
