"""What each hot operation costs as the tables grow, and whether retention keeps up with writers.

    python -m benchmarks.growth
    python -m benchmarks.growth --sizes 100,10000 --seconds 1

Store level, on a durable Postgres, one operation after the other. The cost is the processor time of
the Postgres process that serves it, so that other programs on the machine hardly count; what an
operation writes is rolled back. Each table has as many rows as the column says, and one workspace
has a fifth of them; the lists of workspaces and peers have as many siblings. A ratio is to the
smallest size: flat means 1.5 or less. With `--generic` no statement is planned anew with its
values, as Postgres does for lists once a table has some thousand rows: the rest grows with rows.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks import growth_memories
from benchmarks.growth_rows import Rows, empty_tables, grow
from benchmarks.harness import delegation_draft, durable_postgres
from molecule_grpc.db.pool import Connection, connect
from molecule_grpc.delegation.inbox.store import acks, reads
from molecule_grpc.delegation.inbox.store import retention as inbox_retention
from molecule_grpc.delegation.ledger.store import accept, overview, tallies, views
from molecule_grpc.delegation.ledger.store import retention as ledger_retention
from molecule_grpc.delegation.ledger.store.limits import Limits
from molecule_grpc.delegation.record.store import activity, queries
from molecule_grpc.delegation.record.store import retention as record_retention
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.directory import Heartbeat
from molecule_grpc.events import store as events
from molecule_grpc.events.values import Position, Scope
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.memory.drafting import prepare
from molecule_grpc.memory.items import item
from molecule_grpc.memory.store import changes, commits, namespaces, upkeep
from molecule_grpc.memory.store import reads as memory_reads
from molecule_grpc.memory.store.usage import Limits as UsageLimits
from molecule_grpc.memory.values import Draft
from molecule_grpc.quotas import UNLIMITED
from molecule_grpc.workspace.registry.store import heartbeats
from molecule_grpc.workspace.store import workspaces
from molecule_grpc.workspace.tree import store as tree

SIZES = (100, 10_000, 1_000_000)
FLAT = 1.5
# Retention deletes by batches of so many rows, like its background task.
_BATCH = 2000
_WRITERS = 64
_KEEPS_UP = 10.0
_NO_LIMITS: dict[str, Any] = {"max_items": 10**9, "max_bytes": 10**12}
_UNLIMITED = UsageLimits(*[UNLIMITED] * 4)
_BODY = '{"params": {"message": {"parts": [{"kind": "text", "text": "' + "x" * 200 + '"}]}}}'

Operation = Callable[[Any, Rows], Awaitable[object]]


# Operations.

# Rows of a page: there are as many at the smallest size, too.
_PAGE = 5
_RECEIVED = queries.ActivityFilter(type="a2a_receive")


def _draft(rows: Rows) -> accept.DelegationDraft:
    return delegation_draft(rows.busy, rows.agents[1], rows.organization, _BODY)


def _message(workspace_id: UUID) -> activity.EntryDraft:
    entry = Entry(
        workspace_id=workspace_id,
        activity_id=new_id(),
        activity_type="a2a_receive",
        method="message/send",
        target_id=workspace_id,
        request_body=_BODY,
        message_id=str(new_id()),
        bytes=len(_BODY),
    )
    return activity.EntryDraft(entry)


async def _after_cursor(connection: Any, rows: Rows) -> None:
    """A poller's list, from a row that the poller has seen."""
    newest = await queries.list_rows(connection, rows.busy, _RECEIVED, limit=_PAGE)
    last = newest.rows[-1]
    cursor = queries.Cursor(last.record_seq, last.created_at - queries.HORIZON)
    await queries.list_rows_after(connection, rows.busy, _RECEIVED, cursor=cursor, limit=_PAGE)


async def _look(connection: Any, _: Rows) -> None:
    start = UUID(int=0)
    await record_retention.look(connection, after=start, days=7, limit=1000)
    await inbox_retention.look(connection, after=start, done_days=7, unread_days=30, limit=1000)
    await ledger_retention.prune(connection, days=90, limit=_BATCH)


def _memory(author: UUID) -> commits.Item:
    draft = Draft(content=f"statement {new_id()}")
    return item(prepare(author, draft, datetime.now(UTC)), embed=True)


async def _look_at_memories(connection: Any, rows: Rows) -> None:
    await upkeep.drop_expired(connection, limit=_BATCH)
    await upkeep.drop_values(connection, limit=_BATCH)
    await upkeep.expired_namespaces(connection, (UUID(int=0), ""), limit=_BATCH)
    await upkeep.note_recalled(connection, [(rows.organization, rows.memory)])


OPERATIONS: Mapping[str, Operation] = {
    "heartbeat": lambda c, r: heartbeats.beat(c, [Heartbeat(r.busy, active_tasks=1)]),
    "delegate": lambda c, r: accept.accept_with_room(c, [_draft(r)], Limits(**_NO_LIMITS)),
    "append a message": lambda c, r: activity.append(c, [_message(r.busy)], **_NO_LIMITS),
    "pull inbox": lambda c, r: reads.read(c, [reads.InboxQuery(r.busy, 0, 2)]),
    "ack": lambda c, r: acks.ack(c, [acks.Ack(r.busy, r.size - 10, (), None)]),
    "history, newest": lambda c, r: queries.list_rows(
        c, r.busy, queries.ActivityFilter(), limit=_PAGE
    ),
    "history, after a cursor": _after_cursor,
    "search, a frequent word": lambda c, r: queries.search(
        c, r.busy, "words", limit=_PAGE, seconds=60
    ),
    "delegations of a workspace": lambda c, r: views.list_rows(
        c, r.busy, views.DelegationQuery(_PAGE)
    ),
    "peers": lambda c, r: tree.peers(c, r.sibling, "", after=None, limit=_PAGE),
    "workspaces of an organisation": lambda c, r: workspaces.list_live(
        c, r.crowd, after=None, limit=_PAGE
    ),
    "ledger, in flight": lambda c, r: overview.list_entries(
        c, "in_flight", r.organization, limit=_PAGE
    ),
    "ledger, completed": lambda c, r: overview.list_entries(
        c, "completed", r.organization, limit=_PAGE
    ),
    "ledger, counts": lambda c, r: tallies.count_by_status(c, r.organization),
    "events, newest": lambda c, r: events.newest(
        c, Scope(r.organization, None, ()), before=None, limit=_PAGE
    ),
    "events, read on": lambda c, r: events.read(
        c,
        Position(r.size - 20, 0),
        Scope(r.organization, None, ()),
        limit=_PAGE,
        max_bytes=2**20,
    ),
    "commit a memory": lambda c, r: commits.store(c, [_memory(r.busy)], _UNLIMITED),
    "read a memory": lambda c, r: memory_reads.get(
        c, r.organization, r.memory, [f"workspace:{r.busy}"]
    ),
    "history of a memory": lambda c, r: memory_reads.chain(
        c, r.organization, r.memory, [f"workspace:{r.busy}"]
    ),
    "hold a memory": lambda c, r: changes.hold(
        c, r.organization, [r.memory], [f"workspace:{r.busy}"]
    ),
    "forget a memory": lambda c, r: changes.forget(c, r.organization, r.memory),
    "namespaces of a workspace": lambda c, r: namespaces.resolve(c, r.busy),
    "memories, nothing is due": _look_at_memories,
    **growth_memories.OPERATIONS,
    "retention, nothing is due": _look,
    "retention, a batch of 5": lambda c, r: record_retention.prune(c, r.busy, days=0, limit=_PAGE),
}


# Measuring.


class _RolledBack(Exception):
    """Ends a transaction without its changes."""


async def cost(connection: Connection, rows: Rows, run: Operation, seconds: float) -> float:
    """Microseconds of Postgres' processor time for one operation: the median of many."""
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    taken: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(taken) < 20:
        with contextlib.suppress(_RolledBack):
            async with connection.transaction():
                start = _on_cpu(pid)
                await run(connection, rows)
                taken.append((_on_cpu(pid) - start) / 1000)
                raise _RolledBack
    return statistics.median(taken[len(taken) // 4 :])


def _on_cpu(pid: int) -> int:
    """Nanoseconds that a process has spent on a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


async def growth(
    dsn: str, sizes: Sequence[int], seconds: float, *, generic: bool
) -> dict[str, list[float]]:
    """The cost of every operation at every size.

    Args:
        generic: use the plans that know no values.
    """
    connection = await connect(dsn)
    try:
        # A million rows take longer than any statement of the server may.
        await connection.execute("SET statement_timeout = 0")
        if generic:
            await connection.execute("SET plan_cache_mode = force_generic_plan")
        rows = await empty_tables(dsn, connection)
        found: dict[str, list[float]] = {name: [] for name in OPERATIONS}
        for size in sizes:
            await grow(connection, rows, size)
            for name, run in OPERATIONS.items():
                found[name].append(await cost(connection, rows, run, seconds))
        return found
    finally:
        await connection.close()


async def rates(dsn: str, seconds: float) -> dict[str, tuple[float, float]]:
    """Rows a second that one writer writes in flushes of 64, and that one worker deletes."""
    connection = await connect(dsn)
    try:
        rows = await empty_tables(dsn, connection)

        async def write_messages() -> int:
            drafts = [_message(rows.agents[n % len(rows.agents)]) for n in range(_WRITERS)]
            return len(await activity.append(connection, drafts, **_NO_LIMITS))

        async def delete_messages() -> int:
            gone = 0
            for agent in rows.agents:
                gone += await record_retention.prune(_pool(connection), agent, days=0, limit=_BATCH)
            return gone

        async def write_delegations() -> int:
            drafts = [_draft(rows) for _ in range(_WRITERS)]
            return len(await accept.accept(connection, drafts, Limits(**_NO_LIMITS)))

        async def delete_delegations() -> int:
            return await ledger_retention.prune(_pool(connection), days=0, limit=_BATCH)

        found: dict[str, tuple[float, float]] = {}
        written = await _rate(write_messages, seconds)
        await connection.execute("UPDATE inbox_heads SET acked_seq = last_seq")
        await connection.execute("UPDATE inbox_items SET done_at = now()")
        await connection.execute("VACUUM ANALYZE")
        found["record"] = written, await _rate(delete_messages, seconds)
        written = await _rate(write_delegations, seconds)
        await connection.execute(
            "UPDATE delegations SET status = 'completed' WHERE caller_id = $1", rows.busy
        )
        await connection.execute("VACUUM ANALYZE")
        found["ledger"] = written, await _rate(delete_delegations, seconds)
        return found
    finally:
        await connection.close()


def _pool(connection: Connection) -> Any:
    """A connection where a pool is asked for: both have the same calls."""
    return connection


async def _rate(step: Callable[[], Awaitable[int]], seconds: float) -> float:
    """Rows a second, until the time is over or nothing is left."""
    done, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        rows = await step()
        done += rows
        if not rows:
            break
    return done / (time.monotonic() - start)


def report(found: dict[str, list[float]], sizes: Sequence[int], console: Console) -> None:
    """Print the costs with their ratios to the smallest size."""
    table = Table(title="Postgres CPU of one operation, microseconds (ratio)")
    table.add_column("operation")
    for size in sizes:
        table.add_column(f"{size:,} rows", justify="right")
    for name, costs in found.items():
        cells = [f"{each:,.0f} ({each / costs[0]:.1f}×)" for each in costs]
        style = "" if costs[-1] <= FLAT * costs[0] else "bold"
        table.add_row(name, *cells, style=style)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="rows of each table")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each operation and size")
    parser.add_argument("--generic", action="store_true", help="leave planning out")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    console = Console(width=120)
    with durable_postgres() as dsn:
        found = uvloop.run(growth(dsn, sizes, options.seconds, generic=options.generic))
        report(found, sizes, console)
    with durable_postgres() as dsn:
        kept = uvloop.run(rates(dsn, 5 * options.seconds))
    table = Table(title="rows a second")
    for heading in ("table", "written by one writer", "deleted by one worker", "ratio"):
        table.add_column(heading, justify="left" if heading == "table" else "right")
    for name, (written, deleted) in kept.items():
        table.add_row(name, f"{written:,.0f}", f"{deleted:,.0f}", f"{deleted / written:.1f}×")
    console.print(table)


if __name__ == "__main__":
    main()
