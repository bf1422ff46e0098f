"""The life of one inbox stream, without a host: when it beats, waits and ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from moleculeai.delegation.v1 import inbox_pb2

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.inbox.session import Frame, Session
from molecule_grpc.delegation.inbox.store import inbox
from molecule_grpc.delegation.inbox.stream import Limits, Stream
from molecule_grpc.kernel.errors import Aborted, Exhausted, NotFound, Unauthenticated, Unavailable
from tests.integration.agents import Slice, message

LIMITS = Limits(beat=0.05, silence=60, max_age=60)


async def _valid() -> None:
    """The token is valid."""


@contextlib.asynccontextmanager
async def streaming(
    slice_: Slice, me: UUID, limits: Limits = LIMITS, authorize: Any = _valid, **session: Any
) -> AsyncIterator[tuple[Session, AsyncIterator[Frame]]]:
    """A session, and its frames."""
    with slice_.wakeups.watch(me) as flag:
        opened = Session(me, flag, **{"cursor": 0, "window": None, **session})
        frames = Stream(opened, slice_.reads, limits, authorize).frames()
        try:
            yield opened, frames
        finally:
            await frames.aclose()  # type: ignore[attr-defined]


async def following(frames: AsyncIterator[Frame]) -> Any:
    async with asyncio.timeout(10):
        return await anext(frames)


async def only_beats(frames: AsyncIterator[Frame]) -> None:
    """Nothing else comes, until the stream ends."""
    while True:
        assert isinstance(await following(frames), inbox_pb2.Beat)


async def lease(pool: Pool, me: UUID, consumer: str = "one") -> int:
    async with pool.acquire() as conn, conn.transaction():
        taken, _ = await inbox.take_lease(
            conn, me, consumer, seconds=30, window=16, after=0, takeover=True, resumes_epoch=None
        )
    assert isinstance(taken, inbox.Lease)
    return taken.epoch


async def test_quiet_stream_beats_and_a_busy_one_does_not(slice_: Slice, me: UUID) -> None:
    await slice_.records.append(message(me))
    async with streaming(slice_, me) as (_, frames):
        kinds = [type(await following(frames)).__name__ for _ in range(3)]
    assert kinds == ["InboxItem", "Beat", "Beat"]


async def test_holder_that_says_nothing_is_lost(slice_: Slice, me: UUID) -> None:
    """Beats go unanswered for the length of the silence; the lease is then free."""
    epoch = await lease(slice_.pool, me)
    limits = Limits(beat=0.05, silence=0.3, max_age=60)
    async with streaming(slice_, me, limits, epoch=epoch, window=16) as (_, frames):
        with pytest.raises(Exhausted) as ended:
            await only_beats(frames)
    assert ended.value.reason == "SLOW_CONSUMER"


async def test_holder_that_answers_stays(slice_: Slice, me: UUID) -> None:
    epoch = await lease(slice_.pool, me)
    limits = Limits(beat=0.05, silence=0.3, max_age=60)
    async with streaming(slice_, me, limits, epoch=epoch, window=16) as (session, frames):
        for _ in range(12):
            assert isinstance(await following(frames), inbox_pb2.Beat)
            session.heard = time.monotonic()


async def test_reader_without_a_lease_need_not_answer(slice_: Slice, me: UUID) -> None:
    limits = Limits(beat=0.02, silence=0.05, max_age=60)
    async with streaming(slice_, me, limits) as (_, frames):
        for _ in range(8):
            assert isinstance(await following(frames), inbox_pb2.Beat)


async def test_paused_workspace_gets_beats_and_no_items(slice_: Slice, me: UUID) -> None:
    """And its items when it goes on."""
    await slice_.records.append(message(me))
    await slice_.pool.execute("UPDATE workspaces SET status = 'paused' WHERE id = $1", me)
    async with streaming(slice_, me) as (_, frames):
        for _ in range(3):
            assert (await following(frames)).paused
        await slice_.pool.execute("UPDATE workspaces SET status = 'online' WHERE id = $1", me)
        slice_.wakeups.wake([me])
        assert (await following(frames)).seq == 1


async def test_removed_workspace_ends_the_stream(slice_: Slice, me: UUID) -> None:
    await slice_.pool.execute("UPDATE workspaces SET status = 'removed' WHERE id = $1", me)
    async with streaming(slice_, me) as (_, frames):
        with pytest.raises(NotFound) as ended:
            await following(frames)
    assert ended.value.reason == "WORKSPACE_REMOVED"


async def test_doubted_token_is_looked_at(slice_: Slice, me: UUID) -> None:
    """One that is still valid changes nothing."""
    verdicts: list[Exception | None] = [None, Unauthenticated("revoked")]

    async def authorize() -> None:
        if (verdict := verdicts.pop(0)) is not None:
            raise verdict

    async with streaming(slice_, me, authorize=authorize) as (session, frames):
        session.doubted = True
        assert isinstance(await following(frames), inbox_pb2.Beat)
        assert not session.doubted
        session.doubted = True
        with pytest.raises(Unauthenticated):
            await following(frames)


async def test_lost_lease_ends_the_stream(slice_: Slice, me: UUID) -> None:
    epoch = await lease(slice_.pool, me)
    async with streaming(slice_, me, epoch=epoch, window=16) as (_, frames):
        assert isinstance(await following(frames), inbox_pb2.Beat)
        await lease(slice_.pool, me, "two")
        slice_.wakeups.wake([me])
        with pytest.raises(Aborted) as ended:
            await following(frames)
    assert ended.value.reason == "FENCED"


async def test_drain_waits_for_what_is_with_the_client(slice_: Slice, me: UUID) -> None:
    """No new items meanwhile."""
    epoch = await lease(slice_.pool, me)
    await slice_.records.append(message(me))
    async with streaming(slice_, me, epoch=epoch, window=16) as (session, frames):
        assert (await following(frames)).seq == 1
        session.draining = True
        session.flag.set()
        assert isinstance(await following(frames), inbox_pb2.Drain)
        ending = asyncio.ensure_future(anext(frames))
        await slice_.records.append(message(me))
        done, _ = await asyncio.wait({ending}, timeout=0.2)
        assert not done
        await slice_.reads.ack(inbox.Ack(me, 1, (), epoch))
        slice_.wakeups.wake([me])
        with pytest.raises(Unavailable):
            async with asyncio.timeout(5):
                await ending


async def test_bodies_with_the_client_are_bounded(slice_: Slice, me: UUID) -> None:
    """4 MiB, whatever the window."""
    body = '{"text":"' + "x" * 250_000 + '"}'
    for _ in range(20):
        await slice_.records.append(message(me, request_body=body, bytes=len(body)))
    limits = Limits(beat=0.2, silence=60, max_age=60)
    async with streaming(slice_, me, limits, window=256) as (session, frames):
        count = 0
        while isinstance(await following(frames), inbox_pb2.InboxItem):
            count += 1
        assert 4 * 1024**2 <= session.in_flight_bytes < 4 * 1024**2 + 300_000
    assert count == 17


async def test_due_redelivery_is_not_starved_by_new_items(slice_: Slice, me: UUID) -> None:
    for _ in range(30):
        await slice_.records.append(message(me))
    async with streaming(slice_, me, window=1) as (session, frames):
        for seq in (1, 2):
            assert (await following(frames)).seq == seq
            session.given_back(seq)
            async with slice_.pool.acquire() as conn:
                await inbox.nack(conn, me, seq, delay=0, reason="", epoch=None)
            slice_.wakeups.wake([me])
            again = await following(frames)
            assert (again.seq, again.delivery) == (seq, 2)
            await slice_.reads.ack(inbox.Ack(me, seq, (), None))
            session.done(seq)
