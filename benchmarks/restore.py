"""How long an installation is away when it must be restored: backup, restore, first answer.

    python -m benchmarks.restore [--delegations 100000]

The real server runs over its embedded, durable Postgres, and its ledger, inboxes and record are
filled with completed delegations. Then `molecule-grpc backup` copies the running installation, the
server and its data are given up, `molecule-grpc restore` fills an empty data directory, and `up`
starts on it. The time to recover is restore, start, and the first delegation that is answered: the
last one that was accepted before the backup. Every command is a process of its own, as for an
operator. Exit status 1: a delegation is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.harness import ORGANIZATION, Agent, delegation_draft, make_agents
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.pool import Writer, connect
from molecule_grpc.delegation.ledger.store.accept import DelegationDraft, accept
from molecule_grpc.delegation.ledger.store.limits import Limits
from molecule_grpc.delegation.ledger.store.move import Move, move
from molecule_grpc.kernel.ids import new_id
from tests.running import RunningServer

_AGENTS = 128
_BATCH = 128
_TASK = "What is delegated, and what becomes of it, has about as many words as this. " * 3
_BODY = json.dumps({"text": _TASK})
_NO_LIMITS: dict[str, int] = {"max_items": 10**9, "max_bytes": 10**12}


@dataclass(slots=True)
class Figures:
    """Seconds of each step, and sizes."""

    seconds: dict[str, float] = field(default_factory=dict)
    delegations: int = 0
    megabytes: float = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the block."""
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started


async def fill(dsn: str, agents: list[Agent], count: int) -> tuple[Agent, str]:
    """Accept and complete `count` delegations, and ack all items; the last one's source and id.

    By the statements that the server runs for a batch of calls: the rows are the same.
    """
    writer = Writer(dsn)
    ids = [agent.id for agent in agents]
    drafts: list[DelegationDraft] = []
    for start in range(0, count, _BATCH):
        # Each agent is the source of one delegation of a batch, and the target of another one.
        drafts = [
            delegation_draft(
                ids[n % len(ids)], ids[(n + 1) % len(ids)], ORGANIZATION, _BODY, task_preview=_TASK
            )
            for n in range(start, min(start + _BATCH, count))
        ]
        await accept(writer, drafts, Limits(**_NO_LIMITS))
        await move(writer, [_completion(draft) for draft in drafts])
    connection = await connect(dsn)
    try:
        await connection.execute("UPDATE inbox_heads SET acked_seq = last_seq, acked_bytes = bytes")
    finally:
        await connection.close()
        await writer.close()
    last = drafts[-1]
    return next(agent for agent in agents if agent.id == last.caller_id), last.delegation_id


def _completion(draft: DelegationDraft) -> Move:
    return Move(
        delegation_id=draft.delegation_id,
        party_id=draft.callee_id,
        to="completed",
        result_preview=_TASK,
        result=_TASK,
        truncated=False,
        error_detail=None,
        failure_reason=None,
        summary="Delegation completed",
        response_body=_BODY,
        bytes=len(_BODY),
        audit_id=new_id(),
        item_id=new_id(),
    )


def command(name: str, directory: Path, data_dir: Path) -> None:
    """`molecule-grpc backup` or `restore`."""
    environment = {**os.environ, "DATABASE_URL": "", "MOLECULE_DATA_DIR": str(data_dir)}
    words = [sys.executable, "-m", "molecule_grpc.cli.main", name, str(directory)]
    subprocess.run(words, env=environment, check=True)


async def count_delegations(data_dir: Path) -> int:
    """What stands in the ledger of a running installation."""
    connection = await asyncpg.connect(EmbeddedPostgres(data_dir).dsn)
    try:
        found: int = await connection.fetchval("SELECT count(*) FROM delegations")
    finally:
        await connection.close()
    return found


def measure(delegations: int, place: Path) -> Figures:
    """Measure a backup of a filled installation, and the restore after its loss."""
    figures = Figures()
    server = RunningServer("", place / "data")
    server.start()
    try:
        dsn = EmbeddedPostgres(place / "data").dsn
        agents = asyncio.run(make_agents(dsn, _AGENTS))
        with figures.step("fill"):
            last = asyncio.run(fill(dsn, agents, delegations))
        with figures.step("backup, beside the server"):
            command("backup", place / "backup", place / "data")
    finally:
        server.kill()
    files = (path for path in (place / "backup").rglob("*") if path.is_file())
    figures.megabytes = sum(path.stat().st_size for path in files) / 1e6
    with figures.step("restore"):
        command("restore", place / "backup", place / "restored")
    server = RunningServer("", place / "restored")
    try:
        with figures.step("start, to the first answer"):
            server.start()
            ask(server, *last)
        figures.delegations = asyncio.run(count_delegations(place / "restored"))
    finally:
        server.stop()
    return figures


def ask(server: RunningServer, source: Agent, delegation_id: str) -> None:
    """Raise unless the source reads its delegation."""
    path = f"{server.url}/workspaces/{source.id}/delegations/{delegation_id}"
    found = httpx.get(path, headers=dict(source.metadata), timeout=60)
    if found.status_code != 200:
        raise LookupError(f"delegation {delegation_id} is lost: {found.text}")


def main() -> int:
    """Print the figures; 1 when a delegation is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delegations", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="molecule-restore-") as name:
        figures = measure(arguments.delegations, Path(name))
    table = Table(title=f"Restore of {figures.delegations:,} delegations", show_header=False)
    for step, seconds in figures.seconds.items():
        table.add_row(step, f"{seconds:.1f} s")
    recovery = sum(list(figures.seconds.values())[-2:])
    table.add_row("time to recover: restore and start", f"{recovery:.1f} s")
    table.add_row("size of the backup", f"{figures.megabytes:.0f} MB")
    Console().print(table)
    return 0 if figures.delegations == arguments.delegations else 1


if __name__ == "__main__":
    sys.exit(main())
