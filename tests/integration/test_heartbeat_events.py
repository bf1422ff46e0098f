"""Heartbeats as events: shown to whoever looks, at whichever worker, and otherwise not written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID

import pytest

from molecule_grpc.db.pool import Pool
from molecule_grpc.directory import Heartbeat
from molecule_grpc.events.names import EventType
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.workspace.registry.heartbeat_events import HeartbeatEvents
from molecule_grpc.workspace.registry.heartbeats import Heartbeats
from molecule_grpc.workspace.subscriptions import Subscriptions
from tests.integration.agents import Slice, hire, slice_of
from tests.waiting import PATIENCE


@pytest.fixture
async def workers(database_url: str, pool: Pool) -> AsyncIterator[list[Slice]]:
    """Two that hear of each other."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(slice_of(database_url, pool)) for _ in range(2)]


async def shown(pool: Pool) -> list[str]:
    rows = await pool.fetch("SELECT event_type FROM live_events ORDER BY event_type")
    return [row["event_type"] for row in rows]


async def test_readers_of_one_worker_are_known_to_the_other(workers: list[Slice]) -> None:
    """As long as they stay, and a while longer."""
    now = 0.0
    one, two = workers
    with EventReaders.of(one.wakeups) as here, EventReaders.of(two.wakeups, lambda: now) as there:
        assert there.present  # in doubt
        now = 31.0
        assert not there.present
        with here.attend():
            async with asyncio.timeout(PATIENCE):
                while not there.present:
                    await asyncio.sleep(0.01)
            now = 62.0
            assert not there.present
            await here.announce_readers()
            async with asyncio.timeout(PATIENCE):
                while not there.present:
                    await asyncio.sleep(0.01)
        now = 93.0
        await here.announce_readers()
        await asyncio.sleep(0.2)
        assert not there.present


async def test_heartbeats_write_no_event_while_nobody_looks(
    database_url: str, pool: Pool, workers: list[Slice]
) -> None:
    now = 0.0
    [workspace_id] = await hire(pool, 1)
    with EventReaders.of(workers[0].wakeups, lambda: now) as audience:
        heartbeat_events = HeartbeatEvents(pool, audience, lambda: None)
        subscriptions = Subscriptions()
        subscriptions.on_heartbeats(heartbeat_events.on_heartbeats)
        async with Heartbeats(
            database_url, subscriptions, linger=0.01, tell_readers=lambda: None
        ) as heartbeats:

            async def beat(tasks: int) -> None:
                await heartbeats.beat(Heartbeat(workspace_id=workspace_id, active_tasks=tasks))
                await heartbeat_events.publish()

            assert audience.present
            now = 31.0
            await beat(1)
            assert await shown(pool) == []
            with audience.attend():
                await beat(1)
                assert await shown(pool) == ["WORKSPACE_HEARTBEAT"]
                await beat(2)
    kinds = [EventType.TASK_UPDATED, EventType.WORKSPACE_HEARTBEAT, EventType.WORKSPACE_HEARTBEAT]
    assert await shown(pool) == kinds


async def test_of_several_the_newest_is_shown(pool: Pool, workers: list[Slice]) -> None:
    """A burst costs one row for each workspace; one that is gone costs none."""
    ids = await hire(pool, 3)
    with EventReaders.of(workers[0].wakeups) as audience:
        heartbeat_events = HeartbeatEvents(pool, audience, lambda: None)
        for _ in range(5):
            heartbeat_events.tasks_changed([*ids, UUID(int=7)])
        await heartbeat_events.publish()
        await heartbeat_events.publish()
    assert await shown(pool) == [EventType.TASK_UPDATED] * 3
