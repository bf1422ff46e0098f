"""The life of one inbox stream, without a host: when it beats, waits and ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from molecule_grpc.auth.tokens import digest
from molecule_grpc.db.pool import Pool, connect
from molecule_grpc.delegation.inbox.frames import (
    Beat,
    ClientFrame,
    Drain,
    Frame,
    Hello,
    Item,
    PongFrame,
    StartPosition,
)
from molecule_grpc.delegation.inbox.store import acks, leases
from molecule_grpc.delegation.inbox.store.leases import Lease
from molecule_grpc.delegation.inbox.store.reads import InboxQuery
from molecule_grpc.delegation.inbox.stream import InboxStream
from molecule_grpc.delegation.inbox.window import Window
from molecule_grpc.delegation.inbox.wiring import InboxUseCases, RecordAndInbox, inbox_use_cases
from molecule_grpc.delegation.ledger.undelivered import Undelivered
from molecule_grpc.kernel.errors import Aborted, Exhausted, NotFound, Unauthenticated, Unavailable
from molecule_grpc.server.streams import OpenStreams, StreamGuard
from tests.integration.agents import Slice, hire, message, someone_waits
from tests.settings import unread_of
from tests.waiting import PATIENCE, until


@dataclass
class Opened:
    """A stream with frames and guard."""

    stream: InboxStream
    frames: AsyncGenerator[Frame, None]
    streams: OpenStreams
    guard: StreamGuard


@contextlib.asynccontextmanager
async def streaming(
    slice_: Slice,
    me: UUID,
    *,
    beat: float = 0.05,
    silence: float = 60,
    epoch: int = 0,
    window: int | None = None,
) -> AsyncIterator[Opened]:
    """An open stream from the start of the inbox."""
    streams = OpenStreams()
    with slice_.wakeups.watch(me) as flag, streams.attend(flag):
        guard = StreamGuard(flag, streams, unread_of(), beat=beat, max_age=60)
        stream = InboxStream(
            me, slice_.reads, guard, Window(0, window), epoch=epoch, silence=silence
        )
        async with contextlib.aclosing(stream.frames()) as frames:
            yield Opened(stream, frames, streams, guard)


async def following(opened: Opened) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await anext(opened.frames)


async def only_beats(opened: Opened) -> None:
    """Nothing else comes, until the stream ends."""
    while True:
        assert isinstance(await following(opened), Beat)


async def lease(pool: Pool, me: UUID, consumer: str = "one") -> int:
    async with pool.acquire() as conn, conn.transaction():
        taken, _ = await leases.take(
            conn, me, consumer, seconds=30, window=16, after=0, takeover=True, resumes_epoch=None
        )
    assert isinstance(taken, Lease)
    return taken.epoch


async def test_quiet_stream_beats_and_a_busy_one_does_not(slice_: Slice, me: UUID) -> None:
    await slice_.records.append(message(me))
    async with streaming(slice_, me) as opened:
        kinds = [type(await following(opened)).__name__ for _ in range(3)]
    assert kinds == ["Item", "Beat", "Beat"]


async def test_holder_that_says_nothing_is_lost(slice_: Slice, me: UUID) -> None:
    """Beats go unanswered for the length of the silence; the lease is then free."""
    epoch = await lease(slice_.pool, me)
    async with streaming(slice_, me, silence=0.3, epoch=epoch, window=16) as opened:
        with pytest.raises(Exhausted) as ended:
            await only_beats(opened)
    assert ended.value.reason == "SLOW_CONSUMER"


async def test_holder_that_answers_stays(slice_: Slice, me: UUID) -> None:
    epoch = await lease(slice_.pool, me)
    async with streaming(slice_, me, silence=0.3, epoch=epoch, window=16) as opened:
        for _ in range(12):
            assert isinstance(await following(opened), Beat)
            opened.stream.heard_at = time.monotonic()


async def test_reader_without_a_lease_need_not_answer(slice_: Slice, me: UUID) -> None:
    async with streaming(slice_, me, beat=0.02, silence=0.05) as opened:
        for _ in range(8):
            assert isinstance(await following(opened), Beat)


async def test_paused_workspace_gets_beats_and_no_items(slice_: Slice, me: UUID) -> None:
    """Items come after the workspace resumed."""
    await slice_.records.append(message(me))
    await slice_.pool.execute("UPDATE workspaces SET status = 'paused' WHERE id = $1", me)
    async with streaming(slice_, me) as opened:
        for _ in range(3):
            assert (await following(opened)).paused
        await slice_.pool.execute("UPDATE workspaces SET status = 'online' WHERE id = $1", me)
        slice_.wakeups.wake([me])
        assert (await following(opened)).row.seq == 1


async def test_removed_workspace_ends_the_stream(slice_: Slice, me: UUID) -> None:
    await slice_.pool.execute("UPDATE workspaces SET status = 'removed' WHERE id = $1", me)
    async with streaming(slice_, me) as opened:
        with pytest.raises(NotFound) as ended:
            await following(opened)
    assert ended.value.reason == "WORKSPACE_REMOVED"


async def test_revoked_token_ends_the_stream(slice_: Slice, me: UUID) -> None:
    async with streaming(slice_, me) as opened:
        assert isinstance(await following(opened), Beat)
        opened.guard.revoke()
        with pytest.raises(Unauthenticated):
            await following(opened)


async def test_stream_of_a_removed_workspace_says_so_although_its_token_is_revoked(
    slice_: Slice, me: UUID
) -> None:
    """The cache may not know of the removal yet: the database is asked."""
    async with streaming(slice_, me) as opened:
        assert isinstance(await following(opened), Beat)
        await slice_.pool.execute("UPDATE workspaces SET status = 'removed' WHERE id = $1", me)
        opened.guard.revoke()
        with pytest.raises(NotFound) as ended:
            await following(opened)
    assert ended.value.reason == "WORKSPACE_REMOVED"


async def test_lost_lease_ends_the_stream(slice_: Slice, me: UUID) -> None:
    epoch = await lease(slice_.pool, me)
    async with streaming(slice_, me, epoch=epoch, window=16) as opened:
        assert isinstance(await following(opened), Beat)
        await lease(slice_.pool, me, "two")
        slice_.wakeups.wake([me])
        with pytest.raises(Aborted) as ended:
            await following(opened)
    assert ended.value.reason == "FENCED"


async def test_drain_waits_for_what_is_with_the_client(slice_: Slice, me: UUID) -> None:
    """No new items meanwhile."""
    epoch = await lease(slice_.pool, me)
    await slice_.records.append(message(me))
    async with streaming(slice_, me, epoch=epoch, window=16) as opened:
        assert (await following(opened)).row.seq == 1
        opened.streams.drain()
        assert isinstance(await following(opened), Drain)
        ending = asyncio.ensure_future(anext(opened.frames))
        await slice_.records.append(message(me))
        done, _ = await asyncio.wait({ending}, timeout=0.2)
        assert not done
        await slice_.reads.ack(acks.Ack(me, 1, (), epoch))
        slice_.wakeups.wake([me])
        with pytest.raises(Unavailable):
            async with asyncio.timeout(PATIENCE):
                await ending


async def test_bodies_with_the_client_are_bounded(slice_: Slice, me: UUID) -> None:
    """4 MiB, whatever the window."""
    body = '{"text":"' + "x" * 250_000 + '"}'
    for _ in range(20):
        await slice_.records.append(message(me, request_body=body, bytes=len(body)))
    async with streaming(slice_, me, beat=0.2, window=256) as opened:
        count = 0
        while isinstance(await following(opened), Item):
            count += 1
        assert 4 * 1024**2 <= opened.stream.window.in_flight_bytes < 4 * 1024**2 + 300_000
    assert count == 17


async def test_due_redelivery_is_not_starved_by_new_items(slice_: Slice, me: UUID) -> None:
    for _ in range(30):
        await slice_.records.append(message(me))
    async with streaming(slice_, me, window=1) as opened:
        for seq in (1, 2):
            assert (await following(opened)).row.seq == seq
            opened.stream.window.given_back(seq)
            async with slice_.pool.acquire() as conn:
                await acks.nack(conn, me, seq, delay=0, reason="", epoch=None)
            slice_.wakeups.wake([me])
            again = await following(opened)
            assert (again.row.seq, again.row.deliveries) == (seq, 1)
            await slice_.reads.ack(acks.Ack(me, seq, (), None))
            opened.stream.window.done(seq)


# Pulls.


async def test_pull_gives_nothing_to_a_token_that_was_revoked_during_the_look(
    database_url: str, slice_: Slice, me: UUID
) -> None:
    await slice_.records.append(message(me))
    slice_.wakeups.wake([me])  # whatever is cached is read again
    secret = "a token that will be revoked"
    inbox = inbox_of(slice_).inbox
    lock = await connect(database_url)
    async with lock.transaction():
        await lock.execute("LOCK TABLE inbox_items")
        pulling = asyncio.create_task(inbox.pull(me, authorization=f"Bearer {secret}"))
        await someone_waits(slice_.pool)
        slice_.core.authenticator.forget(digest(secret).hex())
    await lock.close()
    with pytest.raises(Unauthenticated):
        await pulling


# Taking the lease.


@pytest.mark.parametrize("how", ["the client leaves", "the report fails"])
async def test_taking_that_breaks_off_leaves_the_inbox_free(
    database_url: str, slice_: Slice, me: UUID, how: str
) -> None:
    """The lease was committed; the report of an item that it made poison was still under way."""
    [caller] = await hire(slice_.pool, 1)
    delegation_id = await slice_.delegate(caller, me)
    await slice_.pool.execute("UPDATE inbox_items SET failures = 4 WHERE workspace_id = $1", me)
    await slice_.pool.execute(
        "UPDATE inbox_heads SET sent_seqs = '{1}', lost_by_client = true WHERE workspace_id = $1",
        me,
    )
    streams = inbox_of(slice_).streams
    lock = await connect(database_url)
    async with lock.transaction():
        await lock.execute(
            "SELECT FROM delegations WHERE delegation_id = $1 FOR UPDATE", delegation_id
        )
        frames = streams.consume(
            Hello(me, "one", StartPosition(), 16), nothing(), authorization=None
        )
        opening = asyncio.ensure_future(anext(frames))
        await someone_waits(slice_.pool)
        assert await leases.holder(slice_.pool, me) == "one"
        if how == "the client leaves":
            opening.cancel()
        else:
            await slice_.pool.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
    await asyncio.wait({opening})
    await lock.close()
    assert await leases.holder(slice_.pool, me) == ""
    if how == "the client leaves":
        assert (await slice_.row(delegation_id))["status"] == "failed"


async def test_fifth_nack_fails_its_delegation_though_the_client_leaves(
    database_url: str, slice_: Slice, me: UUID
) -> None:
    """And moves the mark: the item was set aside and committed, and the rest was under way."""
    [caller] = await hire(slice_.pool, 1)
    delegation_id = await slice_.delegate(caller, me)
    await slice_.pool.execute("UPDATE inbox_items SET failures = 4 WHERE workspace_id = $1", me)
    lock = await connect(database_url)
    async with lock.transaction():
        await lock.execute(
            "SELECT FROM delegations WHERE delegation_id = $1 FOR UPDATE", delegation_id
        )
        nacking = asyncio.ensure_future(inbox_of(slice_).inbox.nack(me, 1))
        await someone_waits(slice_.pool)
        nacking.cancel()
        await asyncio.wait({nacking}, timeout=0.1)
    await asyncio.wait({nacking})
    await lock.close()
    await until(lambda: slice_.row(delegation_id), lambda row: row["status"] == "failed")
    page = await slice_.reads.look(InboxQuery(me, 0, 1))
    assert page.acked_seq == 1


def inbox_of(slice_: Slice) -> InboxUseCases:
    """The use cases of a worker's inboxes."""
    floors = RecordAndInbox(slice_.records, slice_.reads)
    told = Undelivered(slice_.ledger.moves, unread_days=30)

    async def nobody(_: list[UUID]) -> None:
        pass

    return inbox_use_cases(
        slice_.core,
        floors,
        touch_present=nobody,
        on_poisoned=told.poisoned,
        on_expired=told.expired,
    )


async def nothing() -> AsyncIterator[ClientFrame]:
    """A client that is silent after the hello."""
    await asyncio.Event().wait()
    yield PongFrame()
