"""Acks, nacks and the consumer's lease of an inbox, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from molecule_grpc.db.pool import Pool, connect
from molecule_grpc.delegation.inbox.store import acks, leases, retention
from molecule_grpc.delegation.inbox.store.acks import Ack, Acked, AckRefusal, Nacked
from molecule_grpc.delegation.inbox.store.leases import Held, Lease
from molecule_grpc.delegation.inbox.store.reads import InboxQuery
from tests.integration.agents import Slice, append_on, hire, message, slice_of, someone_waits


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of another worker."""
    opened = await connect(database_url)
    yield opened
    await opened.close()


async def fill(slice_: Slice, me: UUID, count: int) -> None:
    for _ in range(count):
        await slice_.records.append(message(me))


async def seqs(slice_: Slice, me: UUID, after: int = 0, limit: int = 100) -> list[int]:
    page = await slice_.reads.look(InboxQuery(me, after, limit))
    return [row.seq for row in page.items]


async def acked(
    slice_: Slice, me: UUID, *singles: int, up_to: int = 0, epoch: int | None = None
) -> Acked:
    done = await slice_.reads.ack(Ack(me, up_to, singles, epoch))
    assert isinstance(done, Acked)
    return done


async def take(
    pool: Pool, me: UUID, consumer: str = "one", **changes: Any
) -> tuple[Lease | Held, list[Nacked]]:
    options = {"seconds": 30.0, "window": 16, "after": 0, "takeover": False, "resumes_epoch": None}
    async with pool.acquire() as conn, conn.transaction():
        return await leases.take(conn, me, consumer, **{**options, **changes})


async def lease(pool: Pool, me: UUID, consumer: str = "one", **changes: Any) -> Lease:
    taken, _ = await take(pool, me, consumer, **changes)
    assert isinstance(taken, Lease)
    return taken


async def leave(pool: Pool, me: UUID, epoch: int, *sent: int, lost: bool = False) -> None:
    await leases.release(pool, me, epoch, sent_seqs=sent, lost_by_client=lost)


async def deliveries(pool: Pool, me: UUID) -> list[int]:
    rows = await pool.fetch(
        "SELECT deliveries FROM inbox_items WHERE workspace_id = $1 ORDER BY seq", me
    )
    return [row["deliveries"] for row in rows]


# Reading.


async def test_inbox_that_never_received_anything_reads_as_empty(slice_: Slice, me: UUID) -> None:
    page = await slice_.reads.look(InboxQuery(me, 0, 10))
    assert (page.head_seq, page.acked_seq, page.oldest_seq, page.items) == (0, 0, 1, [])
    assert page.workspace_status == "online"


async def test_unknown_workspace_has_no_status(slice_: Slice) -> None:
    page = await slice_.reads.look(InboxQuery(UUID(int=7), 0, 10))
    assert page.workspace_status == ""


async def test_readers_of_one_flush_get_their_own_pages(slice_: Slice, pool: Pool) -> None:
    workspaces = await hire(pool, 5)
    for n, workspace_id in enumerate(workspaces):
        await fill(slice_, workspace_id, n)
    pages = await asyncio.gather(
        *(slice_.reads.look(InboxQuery(w, after, 2)) for w in workspaces for after in (0, 1))
    )
    got = [[row.seq for row in page.items] for page in pages]
    assert got == [[], [], [1], [], [1, 2], [2], [1, 2], [2, 3], [1, 2], [2, 3]]
    assert [page.head_seq for page in pages] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


async def test_large_body_is_left_out(slice_: Slice, me: UUID) -> None:
    body = '{"text":"' + "x" * 300_000 + '"}'
    await slice_.records.append(message(me, request_body=body, bytes=len(body)))
    page = await slice_.reads.look(InboxQuery(me, 0, 1))
    assert page.items[0].body is None


# Acks.


async def test_cumulative_ack_moves_the_mark(slice_: Slice, me: UUID) -> None:
    await fill(slice_, me, 5)
    assert await acked(slice_, me, up_to=3) == Acked(3, 5, 0)
    assert await seqs(slice_, me) == [4, 5]


async def test_single_acks_move_the_mark_over_the_done_prefix(slice_: Slice, me: UUID) -> None:
    await fill(slice_, me, 5)
    assert await acked(slice_, me, 2, 4) == Acked(0, 5, 2)
    assert await seqs(slice_, me) == [1, 3, 5]
    assert await acked(slice_, me, 1) == Acked(2, 5, 1)
    assert await acked(slice_, me, 3) == Acked(4, 5, 1)
    assert await acked(slice_, me, up_to=5) == Acked(5, 5, 0)


async def test_ack_again_changes_nothing(slice_: Slice, me: UUID) -> None:
    await fill(slice_, me, 3)
    await acked(slice_, me, 2, up_to=1)
    before = await slice_.items(me)
    assert await acked(slice_, me, 1, 2, up_to=1) == Acked(2, 3, 0)
    assert await slice_.items(me) == before


@pytest.mark.parametrize(("up_to", "singles"), [(3, ()), (0, (1, 3)), (3, (1,))])
async def test_ack_beyond_the_newest_item_marks_nothing(
    slice_: Slice, me: UUID, up_to: int, singles: tuple[int, ...]
) -> None:
    """The number is of another future, whose items were others."""
    await fill(slice_, me, 2)
    refused = await slice_.reads.ack(Ack(me, up_to, singles, None))
    assert refused is AckRefusal.CURSOR_AHEAD
    assert await seqs(slice_, me) == [1, 2]


async def test_ack_in_an_inbox_without_items(slice_: Slice, me: UUID) -> None:
    assert await slice_.reads.ack(Ack(me, 1, (), None)) is AckRefusal.CURSOR_AHEAD
    assert await acked(slice_, me) == Acked(0, 0, 0)


async def test_ack_of_another_generation_marks_nothing(slice_: Slice, me: UUID) -> None:
    await fill(slice_, me, 2)
    ours = (await slice_.reads.look(InboxQuery(me, 0, 1))).generation
    refused = await slice_.reads.ack(Ack(me, 2, (1,), None, str(UUID(int=7))))
    assert refused is AckRefusal.CURSOR_UNKNOWN
    assert await nack(slice_.pool, me, 1, generation=str(UUID(int=7))) is None
    assert await seqs(slice_, me) == [1, 2]
    assert await slice_.reads.ack(Ack(me, 2, (), None, ours)) == Acked(2, 2, 0)


async def test_ack_that_waited_for_an_append_leaves_its_item(
    slice_: Slice, me: UUID, other: asyncpg.Connection
) -> None:
    """A snapshot read and a later lock must not lose the item appended in between."""
    await fill(slice_, me, 2)
    async with other.transaction():
        await append_on(other, message(me))
        waiting = asyncio.create_task(acked(slice_, me, up_to=2))
        await someone_waits(slice_.pool)
    assert (await waiting).acked_seq == 2
    assert await seqs(slice_, me) == [3]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Ack(UUID(int=0), 0, (1,), None), Ack(UUID(int=0), 0, (2, 3), None)),
        (Ack(UUID(int=0), 0, (2, 3), None), Ack(UUID(int=0), 0, (1,), None)),
        (Ack(UUID(int=0), 1, (), None), Ack(UUID(int=0), 0, (3, 2), None)),
        (Ack(UUID(int=0), 0, (2, 3), None), Ack(UUID(int=0), 1, (), None)),
    ],
    ids=["first come first", "second come first", "up to, then singles", "singles, then up to"],
)
async def test_acks_of_two_workers_at_once_reach_as_far_as_one_after_the_other(
    slice_: Slice, me: UUID, other: asyncpg.Connection, first: Ack, second: Ack
) -> None:
    """The second of two acks sees the first one's effect, not the snapshot of its own start."""
    await fill(slice_, me, 4)
    async with other.transaction():
        await acks.ack(other, [first._replace(workspace_id=me)])
        waiting = asyncio.create_task(slice_.reads.ack(second._replace(workspace_id=me)))
        await someone_waits(slice_.pool)
    done = await waiting
    assert isinstance(done, Acked)
    assert done.acked_seq == 3
    assert await seqs(slice_, me) == [4]


async def test_acks_of_many_workspaces_do_not_deadlock(
    database_url: str, slice_: Slice, pool: Pool
) -> None:
    """Two workers, the same inboxes in opposite order, and writers between them."""
    workspaces = await hire(pool, 8)
    async with slice_of(database_url, pool) as second:
        for _ in range(5):
            await asyncio.gather(
                *(slice_.records.append(message(w)) for w in workspaces),
                *(second.records.append(message(w)) for w in reversed(workspaces)),
                *(slice_.reads.ack(Ack(w, 1, (2, 3), None)) for w in workspaces),
                *(second.reads.ack(Ack(w, 2, (4,), None)) for w in reversed(workspaces)),
            )
    deadlocks = await pool.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks == 0


# Nacks.


async def nack(
    pool: Pool,
    me: UUID,
    seq: int,
    delay: float = 0.0,
    epoch: int | None = None,
    generation: str | None = None,
) -> Nacked | None:
    async with pool.acquire() as conn:
        return await acks.nack(
            conn, me, seq, delay=delay, reason="busy", epoch=epoch, generation=generation
        )


async def test_nacked_item_comes_back_when_it_is_due(slice_: Slice, me: UUID) -> None:
    await fill(slice_, me, 3)
    nacked = await nack(slice_.pool, me, 2, delay=60)
    assert nacked is not None
    assert (nacked.deliveries, nacked.poisoned) == (1, False)
    page = await slice_.reads.look(InboxQuery(me, 0, 10))
    assert [row.seq for row in page.items] == [1, 3]
    assert page.retry_in == pytest.approx(60, abs=5)
    await slice_.pool.execute("UPDATE inbox_items SET not_before = now() WHERE seq = 2")
    page = await slice_.reads.look(InboxQuery(me, 3, 10))
    assert [(row.seq, row.deliveries) for row in page.items] == [(2, 1)]
    assert page.retry_in is None


async def test_fifth_nack_sets_an_item_aside(slice_: Slice, me: UUID) -> None:
    await fill(slice_, me, 2)
    nacks = [await nack(slice_.pool, me, 1) for _ in range(5)]
    assert [one is not None and one.poisoned for one in nacks] == [False] * 4 + [True]
    assert await nack(slice_.pool, me, 1) is None
    assert await seqs(slice_, me) == [2]
    assert (await acked(slice_, me)).acked_seq == 1
    assert [item["outcome"] for item in await slice_.items(me)] == ["poison", None]


async def test_nack_of_a_done_or_unknown_item_is_refused(slice_: Slice, me: UUID) -> None:
    await fill(slice_, me, 3)
    await acked(slice_, me, 3, up_to=1)
    assert [await nack(slice_.pool, me, seq) for seq in (1, 3, 9)] == [None, None, None]


async def test_acked_item_that_was_nacked_keeps_nobody_waiting(slice_: Slice, me: UUID) -> None:
    await fill(slice_, me, 1)
    await nack(slice_.pool, me, 1, delay=60)
    await acked(slice_, me, up_to=1)
    page = await slice_.reads.look(InboxQuery(me, 1, 10))
    assert page.retry_in is None


# The lease.


async def test_first_consumer_takes_the_inbox(slice_: Slice, me: UUID) -> None:
    taken = await lease(slice_.pool, me)
    assert (taken.epoch, taken.head_seq, taken.acked_seq) == (1, 0, 0)


async def test_another_consumer_is_told_who_holds_it(slice_: Slice, me: UUID) -> None:
    await lease(slice_.pool, me)
    held, _ = await take(slice_.pool, me, "two")
    assert isinstance(held, Held)
    assert held.holder == "one"
    assert held.age < 30


@pytest.mark.parametrize(
    ("consumer", "changes"), [("one", {}), ("two", {"takeover": True})], ids=["same", "takeover"]
)
async def test_lease_is_replaced(
    slice_: Slice, me: UUID, consumer: str, changes: dict[str, Any]
) -> None:
    first = await lease(slice_.pool, me)
    second = await lease(slice_.pool, me, consumer, **changes)
    assert second.epoch == first.epoch + 1


async def test_lapsed_or_released_lease_is_free(slice_: Slice, me: UUID) -> None:
    await lease(slice_.pool, me, seconds=0.0)
    second = await lease(slice_.pool, me, "two")
    await leave(slice_.pool, me, second.epoch)
    assert (await lease(slice_.pool, me, "three")).epoch == 3


async def test_renewal_keeps_only_the_holder(slice_: Slice, me: UUID) -> None:
    first = await lease(slice_.pool, me, seconds=0.0)
    assert await leases.renew(slice_.pool, [(me, first.epoch)], seconds=30) == {me}
    held, _ = await take(slice_.pool, me, "two")
    assert isinstance(held, Held)
    await lease(slice_.pool, me, "two", takeover=True)
    assert await leases.renew(slice_.pool, [(me, first.epoch)], seconds=30) == set()


async def test_release_by_a_fenced_session_changes_nothing(slice_: Slice, me: UUID) -> None:
    first = await lease(slice_.pool, me)
    await lease(slice_.pool, me, "two", takeover=True)
    await leave(slice_.pool, me, first.epoch, 1, lost=True)
    held, _ = await take(slice_.pool, me, "three")
    assert isinstance(held, Held)


async def test_old_epoch_acks_and_nacks_nothing(slice_: Slice, me: UUID) -> None:
    await fill(slice_, me, 3)
    first = await lease(slice_.pool, me)
    await lease(slice_.pool, me, "two", takeover=True)
    before = await slice_.items(me)
    assert await slice_.reads.ack(Ack(me, 1, (3,), first.epoch)) is AckRefusal.FENCED
    assert await nack(slice_.pool, me, 2, epoch=first.epoch) is None
    assert await slice_.items(me) == before
    assert await seqs(slice_, me) == [1, 2, 3]


async def test_takeover_that_overtakes_an_ack_wins_whole(
    slice_: Slice, me: UUID, other: asyncpg.Connection
) -> None:
    """Acceptance 6: an ack that is refused has marked nothing, whenever the takeover came."""
    await fill(slice_, me, 3)
    first = await lease(slice_.pool, me, window=2)
    async with other.transaction():
        taken, _ = await leases.take(
            other, me, "two", seconds=30, window=2, after=0, takeover=True, resumes_epoch=None
        )
        ack = asyncio.create_task(slice_.reads.ack(Ack(me, 0, (1, 3), first.epoch)))
        back = asyncio.create_task(nack(slice_.pool, me, 2, epoch=first.epoch))
        await someone_waits(slice_.pool, 2)
    assert isinstance(taken, Lease)
    assert await ack is AckRefusal.FENCED
    assert await back is None
    assert await seqs(slice_, me) == [1, 2, 3]
    assert await deliveries(slice_.pool, me) == [1, 1, 0]


# Handing back.


async def test_next_session_gets_what_was_sent_and_not_acked_marked(
    slice_: Slice, me: UUID
) -> None:
    """In good order: exactly the items that were with the client."""
    await fill(slice_, me, 4)
    first = await lease(slice_.pool, me)
    await acked(slice_, me, 2, epoch=first.epoch)
    await leave(slice_.pool, me, first.epoch, 1, 3)
    await lease(slice_.pool, me)
    assert await deliveries(slice_.pool, me) == [1, 0, 1, 0]


async def test_dead_server_hands_back_a_whole_window(slice_: Slice, me: UUID) -> None:
    """Nobody knows what it had sent: no more than the window, counted from where it began."""
    await fill(slice_, me, 6)
    await lease(slice_.pool, me, window=2, after=2)
    await acked(slice_, me, 3)
    await lease(slice_.pool, me)
    assert await deliveries(slice_.pool, me) == [0, 0, 0, 1, 1, 0]


async def test_items_before_the_start_of_a_session_are_not_its_failures(
    slice_: Slice, me: UUID
) -> None:
    """A client that skips old items, and dies again and again, does not poison them."""
    await fill(slice_, me, 3)
    for _ in range(6):
        taken = await lease(slice_.pool, me, after=2)
        await leave(slice_.pool, me, taken.epoch, 3, lost=True)
    assert [item["outcome"] for item in await slice_.items(me)] == [None, None, "poison"]
    assert await deliveries(slice_.pool, me) == [0, 0, 5]


async def test_lost_client_counts_as_a_failure_and_a_stopped_server_does_not(
    slice_: Slice, me: UUID
) -> None:
    await fill(slice_, me, 1)
    for lost in (True, False, True):
        taken = await lease(slice_.pool, me)
        await leave(slice_.pool, me, taken.epoch, 1, lost=lost)
    await lease(slice_.pool, me)
    (item,) = await slice_.items(me)
    assert (item["deliveries"], item["failures"]) == (3, 2)


async def test_fifth_lost_client_poisons_and_says_so(slice_: Slice, me: UUID) -> None:
    caller = (await hire(slice_.pool, 1))[0]
    name = await slice_.delegate(caller, me)
    for _ in range(5):
        taken = await lease(slice_.pool, me)
        await leave(slice_.pool, me, taken.epoch, 1, lost=True)
    _, poisoned = await take(slice_.pool, me)
    assert [(one.delegation_id, one.method) for one in poisoned] == [(name, "delegate")]
    (item,) = await slice_.items(me)
    assert item["reason"] == "the client was lost 5 times with it"


async def test_resumed_session_is_not_a_failure(slice_: Slice, me: UUID) -> None:
    """After a lost connection the items are delivered again, marked, and count no failure."""
    await fill(slice_, me, 1)
    first = await lease(slice_.pool, me)
    await leave(slice_.pool, me, first.epoch, 1, lost=True)
    await lease(slice_.pool, me, resumes_epoch=first.epoch)
    (item,) = await slice_.items(me)
    assert (item["deliveries"], item["failures"]) == (1, 0)


async def test_resuming_another_epoch_is_a_failure(slice_: Slice, me: UUID) -> None:
    await fill(slice_, me, 1)
    first = await lease(slice_.pool, me)
    await leave(slice_.pool, me, first.epoch, 1, lost=True)
    await lease(slice_.pool, me, resumes_epoch=first.epoch - 1)
    (item,) = await slice_.items(me)
    assert item["failures"] == 1


# Retention.


async def test_retention_that_meets_an_append_leaves_its_item(
    slice_: Slice, me: UUID, other: asyncpg.Connection
) -> None:
    await fill(slice_, me, 2)
    await acked(slice_, me, up_to=2)
    await age(slice_.pool, days=8)
    async with other.transaction():
        await append_on(other, message(me))
        async with slice_.pool.acquire() as conn:
            await retention.prune(conn, me, done_days=7, unread_days=30, limit=100)
    async with slice_.pool.acquire() as conn:
        await retention.prune(conn, me, done_days=7, unread_days=30, limit=100)
    page = await slice_.reads.look(InboxQuery(me, 0, 10))
    assert ([row.seq for row in page.items], page.oldest_seq, page.acked_seq) == ([3], 3, 2)


async def age(pool: Pool, days: int) -> None:
    await pool.execute(
        "UPDATE inbox_items SET created_at = created_at - make_interval(days => $1)", days
    )
