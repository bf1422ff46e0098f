"""Kills under load, and a checker: nothing accepted is lost, doubled, or stuck.

    python -m benchmarks.chaos [--delegations 10000] [--kills 20] [--postgres 3] [--seed 1]

The real server runs in processes of its own over a durable Postgres. Pairs of agents hand each
other work through Envoy with the SDK; beside them files are uploaded, an inbox is followed by a
plain stream, tokens are revoked in use, and workspaces with open work are purged. Meanwhile
workers, the whole installation, or Postgres are killed at random moments. Afterwards the checker
compares the ledger, every inbox, every received file and every token with the history that the
agents recorded. Exit status 1: a promise was broken.
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
from dataclasses import dataclass
from pathlib import Path

import grpc
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Agent as Identity
from benchmarks.harness import make_agents
from benchmarks.havoc import bystanders
from benchmarks.havoc.checker import Verdict, check
from benchmarks.havoc.history import History
from benchmarks.havoc.pairs import Pair
from molecule_grpc.client.platform import Platform
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.migrate import migrate
from molecule_grpc.resources import migrations_dir
from tests.running import RunningServer

_SETTLE_SECONDS = 120.0
_PURGES = 10
# A killed server is tried again at once: gRPC would wait up to two minutes.
_CHANNEL = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))


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
        workers = self._server.workers()
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


@dataclass(frozen=True, slots=True)
class Cast:
    """Who acts: pairs, those beside them, and workspaces that will be purged."""

    pairs: list[Identity]
    writer: Identity
    reader: Identity
    owner: Identity
    source: Identity
    doomed: list[Identity]

    @classmethod
    async def make(cls, dsn: str, pairs: int) -> Cast:
        """Siblings of one parent, each with a token."""
        made = await make_agents(dsn, 2 * pairs + 4 + _PURGES)
        pairs_end = 2 * pairs
        writer, reader, owner, source = made[pairs_end : pairs_end + 4]
        return cls(made[:pairs_end], writer, reader, owner, source, made[pairs_end + 4 :])


async def act(
    server: RunningServer, cast: Cast, folder: Path, total: int, history: History
) -> None:
    """Let all pairs finish their tasks, then everybody else what they began."""
    tasks = [f"task {n}" for n in range(total)]
    sources, targets = cast.pairs[::2], cast.pairs[1::2]
    finish = asyncio.Event()
    url = server.url
    async with contextlib.AsyncExitStack() as stack:
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(server.grpc_target, options=_CHANNEL)
        )
        platform = await stack.enter_async_context(Platform(url, server.admin_token))
        pairs = [
            await stack.enter_async_context(
                Pair(url, source, target, folder / str(target.id), history).at_work()
            )
            for source, target in zip(sources, targets, strict=True)
        ]
        beside = await stack.enter_async_context(asyncio.TaskGroup())
        for work in (
            bystanders.upload(channel, targets, folder, history, finish),
            bystanders.follow(url, channel, cast.writer, cast.reader, history, finish),
            bystanders.revoke(platform, channel, cast.owner, history, finish),
            bystanders.purge(url, platform, cast.source, cast.doomed, history, finish),
        ):
            beside.create_task(work)
        async with asyncio.TaskGroup() as group:
            for index, pair in enumerate(pairs):
                group.create_task(pair.run(tasks[index :: len(pairs)]))
        finish.set()


async def play(arguments: argparse.Namespace) -> int:
    """Run Postgres, server, agents and kills, then the checker; return the exit status."""
    history = History()
    dice = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="molecule-chaos-") as name:
        directory = Path(name)
        postgres = EmbeddedPostgres(directory / "postgres")
        dsn = postgres.start()
        await migrate(dsn, migrations_dir())
        cast = await Cast.make(dsn, arguments.pairs)
        server = RunningServer(
            dsn,
            directory / "server",
            WORKERS=str(arguments.workers),
            DELEGATION_SWEEPER_INTERVAL_S="5",  # ends the work of purged agents
        )
        server.start()
        chaos = Chaos(server, postgres, dice)
        started = time.monotonic()
        try:
            load = asyncio.create_task(
                act(server, cast, directory / "files", arguments.delegations, history)
            )
            await chaos.run(arguments.kills, arguments.postgres, load)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(arguments.wait_limit):
                    await load
            history.received_files = bystanders.received(directory / "files")
            verdict = await check(dsn, history)
        finally:
            server.stop()
            postgres.stop()
    Console().print(_table(history, chaos, verdict, time.monotonic() - started))
    for line in verdict.broken:
        Console().print(f"[red]broken[/] {line}")
    return 1 if verdict.broken else 0


def _table(history: History, chaos: Chaos, verdict: Verdict, seconds: float) -> Table:
    table = Table(title="Chaos", show_header=False)
    repeats = sum(len(seen) - 1 for seen in history.results.values())
    rows = {
        "accepted": f"{len(history.accepted):,}",
        "results heard": f"{len(history.results):,}",
        "results that came again, marked": f"{repeats - history.unmarked:,}",
        "tasks worked on more than once": f"{sum(n > 1 for n in history.worked.values()):,}",
        "files sent, and on their receivers' disks": (
            f"{len(history.sent_files):,}, {len(history.received_files):,}"
        ),
        "messages to a stream that resumes": f"{len(history.followed):,}",
        "tokens revoked in use": f"{len(history.revoked):,}",
        "workspaces purged with open work": f"{len(history.purged):,}",
        **{kind: f"{counted.total():,}" for kind, counted in verdict.kinds().items()},
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
