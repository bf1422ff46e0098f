"""Waiting for news with a flag, whose timer serves several waits."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

from molecule_grpc.db.wakeups import Flag
from tests.waiting import PATIENCE


def lowered() -> Flag:
    flag = Flag(UUID(int=1))
    flag.clear()
    return flag


async def test_news_end_a_wait_at_once() -> None:
    flag = lowered()
    asyncio.get_running_loop().call_soon(flag.set)
    async with asyncio.timeout(PATIENCE):
        assert await flag.wait(3600)
    assert await flag.wait(3600)  # Until it is cleared.


async def test_a_wait_without_news_ends_in_time() -> None:
    flag = lowered()
    began = time.monotonic()
    assert not await flag.wait(0.05)
    assert time.monotonic() - began > 0.04


async def test_a_shorter_wait_ends_before_the_timer_of_a_longer_one() -> None:
    flag = lowered()
    asyncio.get_running_loop().call_soon(flag.set)
    await flag.wait(3600)
    flag.clear()
    async with asyncio.timeout(PATIENCE):
        assert not await flag.wait(0.01)


async def test_the_timer_of_an_earlier_wait_does_not_end_a_later_one() -> None:
    flag = lowered()
    asyncio.get_running_loop().call_soon(flag.set)
    await flag.wait(0.05)
    flag.clear()
    began = time.monotonic()
    assert not await flag.wait(0.2)
    assert time.monotonic() - began > 0.19


async def test_a_wait_that_was_cancelled_leaves_the_flag_as_it_was() -> None:
    flag = lowered()
    waiting = asyncio.create_task(flag.wait(3600))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    flag.set()
    assert await flag.wait(3600)


async def test_a_closed_flag_leaves_no_timer_behind() -> None:
    flag = lowered()
    waiting = asyncio.create_task(flag.wait(0.01))
    await asyncio.sleep(0)
    flag.close()
    await asyncio.sleep(0.05)
    assert not waiting.done()
    flag.set()
    assert await waiting
