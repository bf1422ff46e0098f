"""Asking for operations on a real database: at most one waits for each workspace."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from molecule_grpc.backends.operations.queue import Asked, Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind, Options
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.ids import new_id
from tests.integration.workspaces import ORGANIZATION, add

PLAIN = Options()
_RUN = """
    UPDATE workspace_operations
    SET state = 'running', owner = 'w', started_at = now(), lease_until = now() + interval '1 min'
    WHERE id = $1
"""


async def ask(
    pool: Pool, workspace_id: UUID, kind: Kind, options: Options = PLAIN, delay: float = 0.0
) -> Asked:
    wanted = Wanted(workspace_id, ORGANIZATION, kind, "test", options, delay)
    async with pool.acquire() as conn, conn.transaction():
        [asked] = await enqueue(conn, [wanted])
    return asked


async def states(pool: Pool) -> list[tuple[str, str]]:
    rows = await pool.fetch("SELECT kind, state FROM workspace_operations ORDER BY created_at, id")
    return [tuple(row) for row in rows]


async def test_a_request_that_waits_takes_in_the_next(pool: Pool) -> None:
    """3.10: however many restarts are asked for while one waits, one follows."""
    [workspace] = await add(pool)
    first = await ask(pool, workspace, Kind.START, Options(template="t"), delay=3600)
    again = await ask(pool, workspace, Kind.RESTART, Options(reset_session=True))
    assert again == Asked(workspace, first.operation_id, Kind.RESTART)
    row = await pool.fetchrow("SELECT options::text, not_before <= now() FROM workspace_operations")
    assert tuple(row or ()) == ('{"template": "t", "reset_session": true}', True)


async def test_a_stop_takes_the_place_of_a_start_that_waits_and_ends_one_that_runs(
    pool: Pool,
) -> None:
    [workspace] = await add(pool)
    running = await ask(pool, workspace, Kind.START)
    await pool.execute(_RUN, running.operation_id)
    await ask(pool, workspace, Kind.RESTART)
    assert not await pool.fetchval("SELECT bool_or(cancel_requested) FROM workspace_operations")
    await ask(pool, workspace, Kind.STOP)
    assert await states(pool) == [
        ("start", "running"),
        ("restart", "cancelled"),
        ("stop", "pending"),
    ]
    cancelled = "SELECT cancel_requested FROM workspace_operations WHERE id = $1"
    assert await pool.fetchval(cancelled, running.operation_id)


async def test_nothing_takes_the_place_of_a_removal(pool: Pool) -> None:
    gone = new_id()  # Its row is purged.
    for kind in (Kind.REMOVE, Kind.RESTART, Kind.STOP):
        assert (await ask(pool, gone, kind)).kind is Kind.REMOVE
    assert await states(pool) == [("remove", "pending")]


async def test_requests_at_the_same_moment_become_one_operation(pool: Pool) -> None:
    workspaces = await add(pool, 3)
    asked = await asyncio.gather(
        *(ask(pool, each, Kind.START) for each in workspaces for _ in range(4))
    )
    assert len({each.operation_id for each in asked}) == 3
    assert await states(pool) == [("start", "pending")] * 3


async def test_a_workspace_is_named_once(pool: Pool) -> None:
    [workspace] = await add(pool)
    twice = [Wanted(workspace, ORGANIZATION, kind, "test") for kind in (Kind.STOP, Kind.START)]
    async with pool.acquire() as conn:
        with pytest.raises(ValueError, match="one operation"):
            await enqueue(conn, twice)
