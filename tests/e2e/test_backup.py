"""A backup under load, restored elsewhere: the promises hold, and work goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from benchmarks.harness import Agent as Identity
from benchmarks.harness import make_agents
from benchmarks.havoc import bystanders
from benchmarks.havoc.checker import check
from benchmarks.havoc.history import History
from benchmarks.havoc.pairs import Pair
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from tests.running import RunningServer
from tests.waiting import PATIENCE, until

_TASKS = [f"task {n}" for n in range(5000)]
_LATER = [f"later task {n}" for n in range(50)]
# Names of files and texts of messages after the restore begin here.
_SECOND_LIFE = 100_000


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the account of the embedded Postgres can reach."""
    with tempfile.TemporaryDirectory(prefix="molecule-backup-") as directory:
        yield Path(directory)


@pytest.fixture
def embedded_server() -> Iterator[Any]:
    """Makes servers with an embedded Postgres."""
    made: list[RunningServer] = []

    def make(data_dir: Path) -> RunningServer:
        server = RunningServer("", data_dir, DELEGATION_SWEEPER_INTERVAL_S="5")
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.stop()


def run(command: str, directory: Path, data_dir: Path) -> dict[str, Any]:
    """`molecule-grpc backup` or `restore` in a process of its own; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "molecule_grpc.cli.main", "--json", command, str(directory)],
        env={**os.environ, "DATABASE_URL": "", "MOLECULE_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@dataclass(frozen=True, slots=True)
class Load:
    """Two agents that work for each other, one that writes to a reader, and files."""

    source: Identity
    target: Identity
    writer: Identity
    reader: Identity
    folder: Path

    @contextlib.asynccontextmanager
    async def on(
        self, server: RunningServer, history: History, *, first: int = 0
    ) -> AsyncIterator[Pair]:
        """Files and messages come in while inside; a pair that is ready for tasks."""
        finish = asyncio.Event()
        pair = Pair(server.url, self.source, self.target, self.folder / "agent", history)
        async with (
            grpc.aio.insecure_channel(server.grpc_target) as channel,
            pair.at_work(),
            asyncio.TaskGroup() as group,
        ):
            for work in (
                bystanders.upload(
                    channel, [self.target], self.folder, history, finish, first=first
                ),
                bystanders.follow(
                    server.url, channel, self.writer, self.reader, history, finish, first=first
                ),
            ):
                group.create_task(work)
            yield pair
            finish.set()


class _OverError(Exception):
    """The load was stopped in the middle."""


@pytest.mark.timeout(180)
async def test_a_restored_backup_keeps_what_was_promised_before_it(
    embedded_server: Any, place: Path
) -> None:
    """P1 to P3, P5, P7: taken under load, restored into a new data directory, worked on."""
    before = History()
    server = embedded_server(place / "data")
    source, target, writer, reader = await make_agents(EmbeddedPostgres(place / "data").dsn, 4)
    load = Load(source, target, writer, reader, place / "files")
    acknowledged: dict[str, str] = {}
    messages: list[str] = []

    async def back_up_in_the_middle() -> None:
        async def seen() -> tuple[int, int, int]:
            return len(before.results), len(before.sent_files), len(before.followed)

        await until(seen, lambda counts: counts[0] >= 40 and min(counts) >= 2)
        acknowledged.update(before.accepted)
        messages.extend(before.sent_messages)
        await asyncio.to_thread(run, "backup", place / "backup", place / "data")
        assert len(before.accepted) < len(_TASKS), "the load was over before the backup was"
        raise _OverError

    with contextlib.suppress(BaseExceptionGroup):
        async with load.on(server, before) as pair, asyncio.TaskGroup() as group:
            group.create_task(pair.run(_TASKS))
            group.create_task(back_up_in_the_middle())
    assert acknowledged
    await asyncio.to_thread(server.stop)

    await asyncio.to_thread(run, "restore", place / "backup", place / "restored")
    server = embedded_server(place / "restored")
    dsn = EmbeddedPostgres(place / "restored").dsn
    after = await known(dsn, before)
    assert set(acknowledged) <= set(after.accepted)
    after.sent_messages = messages
    assert after.results
    unheard = [task for name, task in after.accepted.items() if name not in after.results]
    async with load.on(server, after, first=_SECOND_LIFE) as pair, asyncio.timeout(2 * PATIENCE):
        await pair.run([*unheard, *_LATER])
    after.received_files = [
        file for file in bystanders.received(place / "files") if file[0] in after.sent_files
    ]
    verdict = await check(dsn, after)
    assert not verdict.broken
    assert {after.accepted[name] for name in acknowledged} == set(acknowledged.values())


async def known(dsn: str, before: History) -> History:
    """What agents know that saw nothing after the moment of the backup."""
    after = History()
    connection = await asyncpg.connect(dsn)
    try:
        for name, task in await connection.fetch(
            "SELECT delegation_id, task_preview FROM delegations"
        ):
            after.accepted[name] = task
        for (name,) in await connection.fetch(
            """SELECT delegation_id FROM inbox_items i JOIN inbox_heads h USING (workspace_id)
               WHERE method = 'delegate_result' AND (done_at IS NOT NULL OR seq <= acked_seq)"""
        ):
            after.results[name] = before.results[name]
        for (name,) in await connection.fetch("SELECT filename FROM pending_uploads"):
            after.sent_files[name] = before.sent_files[name]
    finally:
        await connection.close()
    return after
