"""What a guard does for a call whose client sends for a long time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from molecule_grpc.db.wakeups import Flag
from molecule_grpc.kernel.errors import Unauthenticated
from molecule_grpc.server.streams import OpenStreams, StreamGuard
from tests.settings import unread_of
from tests.waiting import PATIENCE


def guard_of(streams: OpenStreams, flag: Flag) -> StreamGuard:
    return StreamGuard(flag, streams, unread_of(), beat=15, max_age=3600)


async def messages(queue: asyncio.Queue[str | None]) -> AsyncIterator[str]:
    while (message := await queue.get()) is not None:
        yield message


async def test_messages_arrive_and_end() -> None:
    guard = guard_of(OpenStreams(), Flag(UUID(int=1)))
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    sent = messages(queue)
    for message in ("a", "b", None):
        queue.put_nowait(message)
    assert [await guard.receive(sent, 1) for _ in range(3)] == ["a", "b", None]


async def test_silence_is_a_timeout() -> None:
    guard = guard_of(OpenStreams(), Flag(UUID(int=1)))
    with pytest.raises(TimeoutError):
        await guard.receive(messages(asyncio.Queue()), 0.01)


async def test_a_revoked_token_ends_the_wait_at_once() -> None:
    """And every later look."""
    guard = guard_of(OpenStreams(), Flag(UUID(int=1)))
    asyncio.get_running_loop().call_later(0.01, guard.revoke)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unauthenticated):
            await guard.receive(messages(asyncio.Queue()), 60)
    with pytest.raises(Unauthenticated):
        guard.check()


async def test_a_drain_does_not_disturb_the_wait() -> None:
    streams, flag = OpenStreams(), Flag(UUID(int=1))
    guard = guard_of(streams, flag)
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    sent = messages(queue)
    with streams.attend(flag):
        receiving = asyncio.create_task(guard.receive(sent, 5))
        await asyncio.sleep(0)
        streams.drain()
        await asyncio.sleep(0.01)
        queue.put_nowait("after the drain")
        assert await receiving == "after the drain"


async def test_a_revocation_cancels_what_is_awaited_and_what_is_awaited_within() -> None:
    """A step of an upload awaits `receive` within."""
    guard = guard_of(OpenStreams(), Flag(UUID(int=1)))
    asyncio.get_running_loop().call_later(0.01, guard.revoke)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unauthenticated):
            async with guard.interruptible():
                await guard.receive(messages(asyncio.Queue()), 60)


async def test_a_time_limit_inside_stays_a_time_limit() -> None:
    guard = guard_of(OpenStreams(), Flag(UUID(int=1)))
    with pytest.raises(TimeoutError):
        async with guard.interruptible():
            await guard.receive(messages(asyncio.Queue()), 0.01)


async def test_pieces_end_with_the_token_though_none_comes() -> None:
    guard = guard_of(OpenStreams(), Flag(UUID(int=1)))
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    queue.put_nowait("a")
    pieces = guard.each(messages(queue))
    assert await anext(pieces) == "a"
    asyncio.get_running_loop().call_later(0.01, guard.revoke)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unauthenticated):
            await anext(pieces)
