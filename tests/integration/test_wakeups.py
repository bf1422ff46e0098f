"""Wake-ups cross from worker to worker: all of them, and under load not one by one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from molecule_grpc.db.listener import Listener
from molecule_grpc.db.pool import Writer
from molecule_grpc.db.wakeups import CHANNEL, Wakeups
from molecule_grpc.kernel.ids import new_id
from tests.waiting import PATIENCE


@contextlib.asynccontextmanager
async def listening(dsn: str) -> AsyncIterator[asyncio.Queue[list[UUID]]]:
    """What another worker hears, NOTIFY by NOTIFY."""
    heard: asyncio.Queue[list[UUID]] = asyncio.Queue()
    ready = asyncio.Event()

    def hear(payload: str) -> None:
        heard.put_nowait([UUID(text) for text in payload.partition(" ")[2].split(",")])

    running = asyncio.create_task(Listener(dsn, {CHANNEL: hear}, missed=ready.set).run())
    try:
        await ready.wait()
        yield heard
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def sender(database_url: str) -> AsyncIterator[Wakeups]:
    writer = Writer(database_url)
    wakeups = Wakeups(writer, "sender")
    running = asyncio.create_task(wakeups.run())
    yield wakeups
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await writer.close()


async def test_lone_wakeups_are_heard_one_by_one(database_url: str, sender: Wakeups) -> None:
    async with listening(database_url) as heard, asyncio.timeout(PATIENCE):
        for _ in range(3):
            key = new_id()
            sender.wake([key])
            assert await heard.get() == [key]


async def test_stream_of_wakeups_is_told_together_and_none_is_lost(
    database_url: str, sender: Wakeups
) -> None:
    """At most one NOTIFY in 2 ms, however many commits there are."""
    keys = {new_id() for _ in range(1_000)}
    async with listening(database_url) as heard, asyncio.timeout(PATIENCE):
        started = time.monotonic()
        for key in keys:
            sender.wake([key])
            await asyncio.sleep(0.0002)
        notified, missing = 0, set(keys)
        while missing:
            missing -= set(await heard.get())
            notified += 1
        took = time.monotonic() - started
    assert notified <= took / 0.002 + 2


async def test_a_wakeup_that_waits_its_turn_names_everybody_once(
    database_url: str, sender: Wakeups
) -> None:
    one, two, three = new_id(), new_id(), new_id()
    async with listening(database_url) as heard, asyncio.timeout(PATIENCE):
        sender.wake([one])
        assert await heard.get() == [one]
        sender.wake([two])
        sender.wake([two, three])
        assert sorted(await heard.get()) == sorted([two, three])
