"""Group commit against one statement per request, at store level, on a durable Postgres.

    python -m benchmarks.group_commit

Variants take turns in short rounds of one run, so that noise of the machine hits all of them:
compare ratios, not absolutes. Target: 7 times the pool at 64 concurrent, p99 at most 2 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import asyncpg
import uvloop
from rich.console import Console
from rich.table import Table
from uuid_utils.compat import uuid7

from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.group_commit import GroupCommit
from molecule_grpc.db.pool import Pool, Writer, connect_pool

POOL_SIZE = 16
WORKSPACES = 4_000
CONCURRENCY = (1, 16, 64, 256)
LINGER_MS = (0, 5)  # the server lingers like the second
BASE, OURS = f"pool of {POOL_SIZE}", "group commit, linger 5 ms"
TARGET_RATIO, TARGET_P99_MS = 7.0, 2.0

SCHEMA = """
    CREATE TABLE workspaces (
        id uuid PRIMARY KEY, status text NOT NULL DEFAULT 'online', active_tasks int,
        error_rate real, last_heartbeat_at timestamptz
    ) WITH (fillfactor = 60);
    CREATE TABLE activity (
        id uuid PRIMARY KEY, workspace_id uuid NOT NULL, kind text NOT NULL, body jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    );
"""
BODY = '{"method": "message/send", "text": "' + "x" * 200 + '"}'


@dataclass(frozen=True, slots=True)
class Item:
    workspace: UUID
    row: UUID


@dataclass(frozen=True, slots=True)
class Statement:
    name: str
    single: str
    batch: str
    args: Callable[[Item], tuple[object, ...]]


STATEMENTS = (
    Statement(
        "heartbeat: UPDATE … FROM unnest",
        """UPDATE workspaces SET active_tasks = $2, error_rate = $3, last_heartbeat_at = now()
           WHERE id = $1 RETURNING id, status""",
        """UPDATE workspaces w
           SET active_tasks = b.active, error_rate = b.rate, last_heartbeat_at = now()
           FROM unnest($1::uuid[], $2::int[], $3::real[]) AS b(id, active, rate)
           WHERE w.id = b.id RETURNING w.id, w.status""",
        lambda item: (item.workspace, 3, 0.01),
    ),
    Statement(
        "activity: INSERT … SELECT FROM unnest",
        """INSERT INTO activity (id, workspace_id, kind, body) VALUES ($1, $2, $3, $4)
           RETURNING id""",
        """INSERT INTO activity (id, workspace_id, kind, body)
           SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::jsonb[]) RETURNING id""",
        lambda item: (item.row, item.workspace, "a2a_receive", BODY),
    ),
)

Call = Callable[[Item], Awaitable[object]]


@dataclass(slots=True)
class Cell:
    """Latencies and time of one variant at one concurrency, over all rounds."""

    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.elapsed

    def percentile_ms(self, percent: int) -> float:
        return statistics.quantiles(self.seconds, n=100)[percent - 1] * 1000


def per_request(pool: Pool, statement: Statement) -> Call:
    async def call(item: Item) -> object:
        async with pool.acquire() as connection:
            return await connection.fetchrow(statement.single, *statement.args(item))

    return call


@contextlib.asynccontextmanager
async def grouped(dsn: str, statement: Statement, linger: float) -> AsyncIterator[Call]:
    writer = Writer(dsn)

    async def flush(items: Sequence[Item]) -> Sequence[asyncpg.Record | Exception]:
        args = list(map(statement.args, items))
        rows = await writer.fetch(statement.batch, *map(list, zip(*args, strict=True)))
        found = {row["id"]: row for row in rows}
        return [found.get(arg[0]) or LookupError("no such row") for arg in args]

    batches = GroupCommit(statement.name, flush, key=lambda item: item.workspace, linger=linger)
    await batches.start()
    yield batches.submit
    await batches.stop()
    await writer.close()


async def drive(
    call: Call,
    workspaces: list[UUID],
    concurrency: int,
    cell: Cell,
    seconds: float,
    work: float,
) -> None:
    """Closed loop: every caller sends its next call as soon as the last one is answered."""
    clock = time.perf_counter
    end = clock() + seconds

    async def caller(number: int) -> None:
        turn = number
        while (asked := clock()) < end:
            while clock() < asked + work:
                pass
            item = Item(workspaces[turn % len(workspaces)], uuid7())
            asked = clock()
            await call(item)
            cell.seconds.append(clock() - asked)
            turn += concurrency

    started = clock()
    await asyncio.gather(*(caller(number) for number in range(concurrency)))
    cell.elapsed += clock() - started


async def measure(dsn: str, options: argparse.Namespace) -> dict[tuple[str, int, str], Cell]:
    workspaces = [uuid7() for _ in range(WORKSPACES)]
    cells: dict[tuple[str, int, str], Cell] = {}
    async with contextlib.AsyncExitStack() as stack:
        reset = await stack.enter_async_context(
            asyncpg.create_pool(dsn, min_size=POOL_SIZE, max_size=POOL_SIZE)
        )
        kept = await connect_pool(dsn, min_size=POOL_SIZE, max_size=POOL_SIZE)
        stack.push_async_callback(kept.close)
        await kept.execute(SCHEMA)
        await kept.execute("INSERT INTO workspaces SELECT unnest($1::uuid[])", workspaces)
        for statement in STATEMENTS:
            variants = {
                BASE: per_request(reset, statement),
                f"{BASE}, no reset": per_request(kept, statement),
            }
            for linger in LINGER_MS:
                variants[f"group commit, linger {linger} ms"] = await stack.enter_async_context(
                    grouped(dsn, statement, linger / 1000)
                )
            for call in variants.values():
                await drive(call, workspaces, 64, Cell(), 0.2, 0)
            for _ in range(options.rounds):
                for concurrency in CONCURRENCY:
                    for name, call in variants.items():
                        cell = cells.setdefault((statement.name, concurrency, name), Cell())
                        await drive(
                            call,
                            workspaces,
                            concurrency,
                            cell,
                            options.seconds,
                            options.work_us / 1e6,
                        )
    return cells


def report(cells: dict[tuple[str, int, str], Cell], console: Console) -> bool:
    """Print a table per statement; return whether all of them meet the target."""
    met = True
    for statement in STATEMENTS:
        table = Table(title=statement.name)
        for heading in ("concurrent", "variant", "ratio", "calls/s", "p50 ms", "p99 ms"):
            table.add_column(heading, justify="left" if heading == "variant" else "right")
        for concurrency in CONCURRENCY:
            rows = {
                v: c for (s, n, v), c in cells.items() if (s, n) == (statement.name, concurrency)
            }
            base = rows[BASE].rate
            for variant, cell in rows.items():
                table.add_row(
                    str(concurrency),
                    variant,
                    f"{cell.rate / base:.2f}",
                    f"{cell.rate:,.0f}",
                    f"{cell.percentile_ms(50):.2f}",
                    f"{cell.percentile_ms(99):.2f}",
                )
            table.add_section()
        console.print(table)
        base_cell, ours = (cells[statement.name, 64, variant] for variant in (BASE, OURS))
        ratio, p99 = ours.rate / base_cell.rate, ours.percentile_ms(99)
        hit = ratio >= TARGET_RATIO and p99 <= TARGET_P99_MS
        console.print(
            f"at 64: {ratio:.1f}x, p99 {p99:.2f} ms; target {TARGET_RATIO:g}x, "
            f"{TARGET_P99_MS:g} ms: {'met' if hit else 'MISSED'}\n"
        )
        met &= hit
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.8, help="per cell and round")
    parser.add_argument("--work-us", type=float, default=0, help="CPU a caller burns before a call")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder)) as postgres:
        cells = uvloop.run(measure(postgres.dsn, options))
    if not report(cells, console):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
