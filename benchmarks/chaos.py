"""Kills under load, and a checker: each accepted delegation ends once, reported to its caller once.

    python -m benchmarks.chaos [--delegations 10000] [--kills 20] [--postgres 5] [--seed 1]

The real server runs in processes of its own over a durable Postgres. Pairs of agents hand each
other work through Envoy with the SDK. Meanwhile workers, the whole installation, or Postgres are
killed at random moments. Afterwards the checker compares the ledger and every inbox with the
history that the agents recorded. Exit status 1: a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Agent as Identity
from benchmarks.harness import make_agents
from molecule_grpc.client import Agent
from molecule_grpc.client.errors import CallError
from molecule_grpc.client.items import Item
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.migrate import migrate
from molecule_grpc.db.pool import connect
from molecule_grpc.resources import migrations_dir
from tests.running import RunningServer

_IN_HAND = 8
_SETTLE_SECONDS = 120.0


@dataclass(slots=True)
class History:
    """The agents' side of the run: delegations accepted, tasks worked on, results received."""

    accepted: dict[str, str] = field(default_factory=dict)
    worked: collections.Counter[str] = field(default_factory=collections.Counter)
    # Delegation id → (seq, delivery) of every result item received.
    results: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    # Results received again although their item said `delivery` 1.
    unmarked: int = 0
    errors: collections.Counter[str] = field(default_factory=collections.Counter)


class Pair:
    """A coordinator and a worker with at most 8 open delegations between them."""

    def __init__(self, url: str, source: Identity, target: Identity, history: History) -> None:
        self._source = Agent(url, str(source.id), source.token)
        self._target = Agent(url, str(target.id), target.token)
        self._history = history
        self._room = asyncio.Semaphore(_IN_HAND)

    async def run(self, tasks: list[str]) -> None:
        """Delegate every task, complete it, and return once every result was received."""
        async with self._source, self._target:
            serving = asyncio.create_task(self._target.serve(self._work, concurrency=4))
            collecting = asyncio.create_task(self._collect(len(tasks)))
            try:
                for task in tasks:
                    await self._room.acquire()
                    await self._delegate(task)
                await collecting
            finally:
                for one in (serving, collecting):
                    one.cancel()
                await asyncio.gather(serving, collecting, return_exceptions=True)

    async def _delegate(self, task: str) -> None:
        """Repeat Delegate until accepted; the idempotency key keeps repeats one delegation."""
        while True:
            try:
                made = await self._source.delegate(
                    self._target.workspace_id, task, idempotency_key=task
                )
            except CallError as error:
                self._history.errors[error.reason] += 1
                await asyncio.sleep(0.2)
            else:
                self._history.accepted[made.id] = task
                return

    async def _work(self, item: Item) -> str:
        self._history.worked[item.delegation_id] += 1
        return f"done: {item.text}"

    async def _collect(self, count: int) -> None:
        seen: set[str] = set()
        async for item in self._source.inbox(max_in_flight=32):
            if item.method != "delegate_result":
                continue
            known = item.delegation_id in seen
            if known and item.delivery == 1:
                self._history.unmarked += 1
            self._history.results.setdefault(item.delegation_id, []).append(
                (item.seq, item.delivery)
            )
            if not known:
                seen.add(item.delegation_id)
                self._room.release()
            if len(seen) >= count:
                return


class Chaos:
    """Kills at random moments."""

    def __init__(
        self, server: RunningServer, postgres: EmbeddedPostgres, dice: random.Random
    ) -> None:
        self._server = server
        self._postgres = postgres
        self._dice = dice
        self.done: collections.Counter[str] = collections.Counter()
        self.away: list[float] = []

    async def run(self, kills: int, restarts: int, load: asyncio.Task[None]) -> None:
        """Kill workers or the whole server `kills` times and Postgres `restarts` times.

        Stops early when the load has ended.
        """
        plan = ["worker", "everything"] * ((kills + 1) // 2)
        plan = plan[:kills] + ["postgres"] * restarts
        self._dice.shuffle(plan)
        for what in plan:
            await asyncio.sleep(self._dice.uniform(0.5, 3.0))
            if load.done():
                return
            started = time.monotonic()
            await getattr(self, f"_kill_{what}")()
            self.away.append(time.monotonic() - started)
            self.done[what] += 1

    async def _kill_worker(self) -> None:
        workers = [
            child
            for child in psutil.Process(self._server.pid).children()
            if "molecule_grpc.server.process.worker" in child.cmdline()
        ]
        assert workers, "no worker process to kill"
        self._dice.choice(workers).kill()
        await self._answering()

    async def _kill_everything(self) -> None:
        await asyncio.to_thread(self._server.restart)

    async def _kill_postgres(self) -> None:
        await asyncio.to_thread(self._postgres.kill_hard)
        await asyncio.to_thread(self._postgres.start)
        await self._answering()

    async def _answering(self) -> None:
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(self._server.healthy):  # noqa: ASYNC110  (a probe)
                await asyncio.sleep(0.1)


async def check(dsn: str, history: History) -> list[str]:
    """One line for each broken promise; an empty list means that all were kept."""
    connection = await connect(dsn)
    try:
        broken = await _check_ledger(connection, history)
        broken += await _check_inboxes(connection)
    finally:
        await connection.close()
    if history.unmarked:
        broken.append(f"{history.unmarked} results came again without a mark")
    silent = set(history.accepted) - set(history.results)
    if silent:
        broken.append(f"P3: {len(silent)} callers never heard of an end")
    return broken


async def _check_ledger(
    connection: asyncpg.Connection[asyncpg.Record], history: History
) -> list[str]:
    rows = await connection.fetch("SELECT delegation_id, status, result FROM delegations")
    ledger = {row["delegation_id"]: row for row in rows}
    broken = []
    lost = set(history.accepted) - set(ledger)
    if lost:
        broken.append(f"P1: {len(lost)} accepted delegations are not in the ledger")
    doubled = len(ledger) - len(set(history.accepted.values()))
    if doubled:
        broken.append(f"P5: {doubled} delegations more than tasks")
    wrong = [
        name
        for name, task in history.accepted.items()
        if name in ledger
        and (ledger[name]["status"], ledger[name]["result"]) != ("completed", f"done: {task}")
    ]
    if wrong:
        broken.append(f"P2: {len(wrong)} delegations did not end completed with their text")
    return broken


async def _check_inboxes(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    broken = []
    twice = await connection.fetchval(
        """SELECT count(*) FROM (
               SELECT FROM inbox_items WHERE method = 'delegate_result'
               GROUP BY workspace_id, delegation_id HAVING count(*) > 1) d"""
    )
    if twice:
        broken.append(f"P3: {twice} delegations have more than one end in their caller's inbox")
    holes = await connection.fetchval(
        """SELECT count(*) FROM (
               SELECT h.workspace_id FROM inbox_heads h LEFT JOIN inbox_items x USING (workspace_id)
               GROUP BY h.workspace_id, h.last_seq, h.oldest_seq
               HAVING count(x.seq) <> h.last_seq - h.oldest_seq + 1) d"""
    )
    if holes:
        broken.append(f"P3: {holes} inboxes have holes")
    return broken


async def _load(url: str, agents: list[Identity], total: int, history: History) -> None:
    pairs = len(agents) // 2
    tasks = [f"task {n}" for n in range(total)]
    async with asyncio.TaskGroup() as group:
        for index in range(pairs):
            pair = Pair(url, agents[2 * index], agents[2 * index + 1], history)
            group.create_task(pair.run(tasks[index::pairs]))


async def play(arguments: argparse.Namespace) -> int:
    """Run Postgres, server, agents and kills, then the checker; return the exit status."""
    history = History()
    dice = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="molecule-chaos-") as directory:
        postgres = EmbeddedPostgres(Path(directory) / "postgres")
        dsn = postgres.start()
        await migrate(dsn, migrations_dir())
        agents = await make_agents(dsn, 2 * arguments.pairs)
        server = RunningServer(dsn, Path(directory) / "server", WORKERS=str(arguments.workers))
        server.start()
        chaos = Chaos(server, postgres, dice)
        started = time.monotonic()
        try:
            load = asyncio.create_task(_load(server.url, agents, arguments.delegations, history))
            await chaos.run(arguments.kills, arguments.postgres, load)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(arguments.wait_limit):
                    await load
            broken = await check(dsn, history)
        finally:
            server.stop()
            postgres.stop()
    Console().print(_table(history, chaos, broken, time.monotonic() - started))
    for line in broken:
        Console().print(f"[red]broken[/] {line}")
    return 1 if broken else 0


def _table(history: History, chaos: Chaos, broken: list[str], seconds: float) -> Table:
    table = Table(title="Chaos", show_header=False)
    repeats = sum(len(seen) - 1 for seen in history.results.values())
    rows = {
        "accepted": f"{len(history.accepted):,}",
        "results heard": f"{len(history.results):,}",
        "results that came again, marked": f"{repeats - history.unmarked:,}",
        "tasks worked on more than once": f"{sum(n > 1 for n in history.worked.values()):,}",
        "promises broken": f"{len(broken)}",
        "kills under load": ", ".join(
            f"{count} {what}" for what, count in sorted(chaos.done.items())
        ),
        "longest from a kill until it answered again": f"{max(chaos.away, default=0):.1f} s",
        "errors that callers saw": str(dict(history.errors)) if history.errors else "none",
        "duration": f"{seconds:.0f} s",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def main() -> None:
    """Entry of `python -m benchmarks.chaos`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delegations", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--postgres", type=int, default=3, help="kills of Postgres")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wait_limit", type=float, default=_SETTLE_SECONDS)
    sys.exit(asyncio.run(play(parser.parse_args())))


if __name__ == "__main__":
    main()
