"""The statements of the delegation slice, at store level, on a durable Postgres.

    python -m benchmarks.statements

One writer, one flush after the other, as group commit runs them. Of every flush three figures are
taken: its wall time with the commit, the processor time of the Postgres process that serves it,
and the processor time of this process. To compare two trees, run it from each in turn with
`--dsn` of one database and compare the processor times: the wall time is mostly the disk's.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.harness import ORGANIZATION, delegation_draft, durable_postgres, make_agents
from molecule_grpc.db.pool import Connection, Writer, connect
from molecule_grpc.delegation.ledger.store.accept import DelegationDraft, accept, accept_with_room
from molecule_grpc.delegation.ledger.store.limits import Limits
from molecule_grpc.delegation.ledger.store.move import Move, move
from molecule_grpc.delegation.outbound.store import leases
from molecule_grpc.delegation.record.store.activity import EntryDraft, append
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.kernel.ids import new_id

SIZES = (1, 8, 64)
_STATEMENTS = ("accept", "move", "append", "append, events read", "claim")
# More workspaces than the largest flush has rows, and each row has another callee.
_AGENTS = 512
_BODY = '{"params": {"message": {"parts": [{"kind": "text", "text": "' + "x" * 200 + '"}]}}}'
_NO_LIMITS: dict[str, Any] = {"max_items": 10**9, "max_bytes": 10**12}
_LIMITS = Limits(**_NO_LIMITS)


@dataclass(slots=True)
class Cell:
    """Microseconds of every flush of one statement and one size."""

    wall: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)


Cells = dict[tuple[str, int], Cell]


class Bench:
    """Writers for each statement, and workspaces to write about."""

    def __init__(self, dsn: str, admin: Connection, ids: Sequence[UUID]) -> None:
        self._admin = admin
        self._ids = ids
        self._turn = 0
        self._writers = {name: Writer(dsn) for name in _STATEMENTS}
        self._servers: dict[str, int] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, dsn: str) -> AsyncIterator[Bench]:
        """Yield a bench with `_AGENTS` new workspaces and a connection for each statement."""
        agents = await make_agents(dsn, _AGENTS)
        admin = await connect(dsn)
        bench = cls(dsn, admin, [agent.id for agent in agents])
        try:
            for name, writer in bench._writers.items():
                bench._servers[name] = (await writer.fetch("SELECT pg_backend_pid()"))[0][0]
            yield bench
        finally:
            for writer in bench._writers.values():
                await writer.close()
            await admin.close()

    async def round(self, size: int, flushes: int, cells: Cells) -> None:
        """Flush every statement repeatedly with this many rows."""
        for _ in range(flushes):
            drafts = [self._draft(*self._pair()) for _ in range(size)]
            await self._timed(
                "accept", size, cells, partial(accept_with_room, drafts=drafts, limits=_LIMITS)
            )
            moves = [_completion(draft) for draft in drafts]
            await self._timed("move", size, cells, partial(move, moves=moves))
            entries = [EntryDraft(_message(self._pair()[1])) for _ in range(size)]
            await self._timed(
                "append", size, cells, partial(append, entries=entries, watched=False, **_NO_LIMITS)
            )
            entries = [EntryDraft(_message(self._pair()[1])) for _ in range(size)]
            await self._timed(
                "append, events read", size, cells, partial(append, entries=entries, **_NO_LIMITS)
            )
            await self._claim(size, cells)

    async def _claim(self, size: int, cells: Cells) -> None:
        drafts = [self._draft(*self._pair(), queue_id=new_id()) for _ in range(size)]
        await accept(self._admin, drafts, _LIMITS)
        callees = [draft.callee_id for draft in drafts]

        async def claim(writer: Writer) -> None:
            async with writer.connection() as connection, connection.transaction():
                found = await leases.claim(
                    connection, callees, limit=size, owner="bench", lease_seconds=60
                )
            if len(found.rows) != size:
                raise RuntimeError(f"{len(found.rows)} of {size} messages were claimed")

        await self._timed("claim", size, cells, claim)
        await self._admin.execute(
            "UPDATE a2a_queue SET status = 'completed' WHERE workspace_id = ANY($1)", callees
        )

    async def _timed(
        self, name: str, size: int, cells: Cells, run: Callable[[Writer], Awaitable[object]]
    ) -> None:
        server = self._servers[name]
        before = (_on_cpu(server), time.process_time_ns(), time.perf_counter_ns())
        await run(self._writers[name])
        after = (_on_cpu(server), time.process_time_ns(), time.perf_counter_ns())
        cell = cells.setdefault((name, size), Cell())
        for taken, start, end in zip(
            (cell.server, cell.client, cell.wall), before, after, strict=True
        ):
            taken.append((end - start) / 1000)

    def _pair(self) -> tuple[UUID, UUID]:
        self._turn += 1
        return self._ids[-self._turn % _AGENTS], self._ids[self._turn % _AGENTS]

    def _draft(
        self, caller_id: UUID, callee_id: UUID, queue_id: UUID | None = None
    ) -> DelegationDraft:
        return delegation_draft(caller_id, callee_id, ORGANIZATION, _BODY, queue_id=queue_id)


def _completion(draft: DelegationDraft) -> Move:
    return Move(
        delegation_id=draft.delegation_id,
        party_id=draft.callee_id,
        to="completed",
        result_preview="done",
        result="done",
        truncated=False,
        error_detail=None,
        failure_reason=None,
        summary="Delegation completed: done",
        response_body='{"text": "done"}',
        bytes=16,
        audit_id=new_id(),
        item_id=new_id(),
    )


def _message(workspace_id: UUID) -> Entry:
    return Entry(
        workspace_id=workspace_id,
        activity_id=new_id(),
        activity_type="a2a_receive",
        method="message/send",
        target_id=workspace_id,
        request_body=_BODY,
        message_id=str(new_id()),
        bytes=len(_BODY),
    )


def _on_cpu(pid: int) -> int:
    """Nanoseconds that a process has spent on a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


async def measure(dsn: str, sizes: Sequence[int], rounds: int, flushes: int) -> Cells:
    """Rounds over all sizes, so that noise of the machine hits each. Round 0 only warms up."""
    cells: Cells = {}
    async with Bench.open(dsn) as bench:
        for size in sizes:
            await bench.round(size, flushes, {})
        for _ in range(rounds):
            for size in sizes:
                await bench.round(size, flushes, cells)
    return cells


def report(cells: Cells, console: Console) -> None:
    """Print the medians."""
    table = Table(title="a flush, microseconds, medians")
    for heading in ("statement", "rows", "wall", "Postgres CPU", "our CPU"):
        table.add_column(heading, justify="left" if heading == "statement" else "right")
    for (name, size), cell in sorted(cells.items()):
        taken = (statistics.median(each) for each in (cell.wall, cell.server, cell.client))
        table.add_row(name, str(size), *(f"{each:,.0f}" for each in taken))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dsn", help="a migrated database of this machine; default: its own")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="rows in a flush")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flushes", type=int, default=20, help="per statement, size and round")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with contextlib.ExitStack() as stack:
        dsn = options.dsn or stack.enter_context(durable_postgres())
        cells = uvloop.run(measure(dsn, sizes, options.rounds, options.flushes))
    report(cells, Console())


if __name__ == "__main__":
    main()
