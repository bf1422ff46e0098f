"""Whatever waits for a workspace's locks takes them in one order, so that nothing deadlocks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg
import pytest

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.delegation.inbox.retention import purge
from molecule_grpc.delegation.inbox.store import acks, dead_letters
from molecule_grpc.delegation.outbound.store import upkeep
from molecule_grpc.kernel.ids import new_id
from tests.integration.agents import Slice, hire, message, slice_of
from tests.waiting import until

_HOLD_HEAD = "SELECT FROM inbox_heads WHERE workspace_id = $1 FOR UPDATE"


async def purge_workspace(conn: Connection, workspace_id: UUID) -> None:
    """What removing a workspace for good deletes, in its order."""
    await upkeep.delete_all(conn, [workspace_id])
    await purge(conn, [workspace_id])
    await conn.execute("DELETE FROM workspaces WHERE id = $1", workspace_id)


async def poisoned(one: Slice) -> UUID:
    """A workspace with three items, of which the first was set aside."""
    [agent] = await hire(one.pool, 1)
    for n in range(3):
        await one.records.append(message(agent, f"message {n + 1}"))
    async with one.pool.acquire() as conn:
        for _ in range(acks.MAX_FAILURES):
            await acks.nack(conn, agent, 1, delay=0, reason="broken", epoch=None)
    return agent


async def replay_first(conn: Connection, workspace_id: UUID) -> None:
    """An operator sends the first item again."""
    await dead_letters.replay(conn, workspace_id, 1, None)


@pytest.mark.parametrize("second", [purge_workspace, replay_first])
async def test_who_holds_a_head_may_still_write_its_items(
    database_url: str,
    pool: Pool,
    second: Callable[[Connection, UUID], Awaitable[None]],
) -> None:
    """An ack locks the head before the items; a purge or replay waits for the ack, no deadlock."""
    async with slice_of(database_url, pool) as one:
        agent = await poisoned(one)
        ack = await asyncpg.connect(database_url)
        async with ack.transaction():
            await ack.execute(_HOLD_HEAD, agent)
            waiting = asyncio.create_task(_in_transaction(pool, second, agent))
            await _waits(pool)
            await ack.execute(
                "UPDATE inbox_items SET done_at = now() WHERE workspace_id = $1", agent
            )
        await ack.close()
        await waiting


async def test_a_delivery_that_settles_may_still_write_the_record(
    database_url: str, pool: Pool
) -> None:
    """A delivery locks the queued message before the head; a purge waits for the message."""
    async with slice_of(database_url, pool) as one:
        agent = await poisoned(one)
        row_id = new_id()
        await pool.execute(
            "INSERT INTO a2a_queue (id, workspace_id, body, method) VALUES ($1, $2, '{}', 'm')",
            row_id,
            agent,
        )
        settling = await asyncpg.connect(database_url)
        async with settling.transaction():
            await settling.execute("UPDATE a2a_queue SET attempts = 1 WHERE id = $1", row_id)
            waiting = asyncio.create_task(_in_transaction(pool, purge_workspace, agent))
            await _waits(pool)
            await settling.execute(_HOLD_HEAD, agent)
        await settling.close()
        await waiting


async def _in_transaction(
    pool: Pool, step: Callable[[Connection, UUID], Awaitable[None]], workspace_id: UUID
) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await step(conn, workspace_id)


async def _waits(pool: Pool) -> None:
    """Until a transaction of this database waits for another's lock."""

    async def waiting() -> int:
        found: int = await pool.fetchval(
            """
            SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE NOT l.granted AND a.datname = current_database()
            """
        )
        return found

    await until(waiting, lambda count: count > 0)
