"""Numbers of records and inboxes: no holes, in commit order, so that a cursor skips nothing."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest

from molecule_grpc.db.pool import Pool, connect
from molecule_grpc.delegation.inbox.cache import InboxCache
from molecule_grpc.delegation.inbox.store import acks, reads
from molecule_grpc.delegation.inbox.store.reads import InboxQuery
from molecule_grpc.delegation.record.store import queries
from molecule_grpc.delegation.record.store.entries import Entry
from tests.integration.agents import Slice, append_on, hire, message, note, slice_of
from tests.waiting import PATIENCE


@pytest.fixture
async def slices(database_url: str, pool: Pool) -> AsyncIterator[list[Slice]]:
    """Three workers over one database."""
    async with (
        slice_of(database_url, pool) as one,
        slice_of(database_url, pool) as two,
        slice_of(database_url, pool) as three,
    ):
        yield [one, two, three]


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[list[asyncpg.Connection]]:
    opened = [await connect(database_url) for _ in range(6)]
    yield opened
    for connection in opened:
        await connection.close()


async def read_after(pool: Pool, me: UUID, seq: int, limit: int = 100) -> list[int]:
    async with pool.acquire() as conn:
        # A connection fetches as a writer does.
        (page,) = await reads.read(conn, [InboxQuery(me, seq, limit)])  # type: ignore[arg-type]
    return [row.seq for row in page.items]


async def list_after(pool: Pool, me: UUID, row: UUID, limit: int = 100) -> list[UUID]:
    position = await queries.cursor(pool, me, row)
    assert position is not None
    page = await queries.list_rows_after(
        pool, me, queries.ActivityFilter(), cursor=position, limit=limit
    )
    return [found.id for found in page.rows]


async def test_transaction_that_began_first_and_commits_last_is_not_skipped(
    pool: Pool, connections: list[asyncpg.Connection]
) -> None:
    """Acceptance 2: its rows are older by the clock than what the reader has seen already."""
    (me,) = await hire(pool, 1)
    early, late = connections[:2]
    start, seen, missed = message(me), message(me), message(me)
    await append_on(late, start)
    async with early.transaction():
        await early.fetchval("SELECT now()")
        await append_on(late, seen)
        assert await read_after(pool, me, 0) == [1, 2]
        assert await list_after(pool, me, start.activity_id) == [seen.activity_id]
        await append_on(early, missed)
    assert await read_after(pool, me, 2) == [3]
    assert await list_after(pool, me, seen.activity_id) == [missed.activity_id]
    assert await list_after(pool, me, start.activity_id) == [seen.activity_id, missed.activity_id]


async def test_rows_of_one_transaction_are_not_skipped(
    pool: Pool, connections: list[asyncpg.Connection]
) -> None:
    """They share one instant: a cursor on the first still finds the second."""
    (me,) = await hire(pool, 1)
    one, two = message(me), message(me)
    await append_on(connections[0], one, two)
    assert await read_after(pool, me, 1) == [2]
    assert await list_after(pool, me, one.activity_id) == [two.activity_id]


async def test_rollback_leaves_no_hole(pool: Pool, connections: list[asyncpg.Connection]) -> None:
    (me,) = await hire(pool, 1)
    writer = connections[0]
    await append_on(writer, message(me))
    undone = writer.transaction()
    await undone.start()
    await append_on(writer, message(me), note(me), message(me))
    await undone.rollback()
    await append_on(writer, message(me))
    assert await read_after(pool, me, 0) == [1, 2]
    numbers = await pool.fetch("SELECT record_seq FROM activity_logs ORDER BY 1")
    assert [row[0] for row in numbers] == [1, 2]


async def test_order_within_one_call_is_the_order_of_the_inbox(
    pool: Pool, connections: list[asyncpg.Connection]
) -> None:
    """A file is announced before the message that speaks of it."""
    (me,) = await hire(pool, 1)
    entries = [message(me) for _ in range(20)]
    await append_on(connections[0], *entries)
    rows = await pool.fetch("SELECT activity_id FROM inbox_items ORDER BY seq")
    assert [row[0] for row in rows] == [entry.activity_id for entry in entries]


@dataclass
class Scene:
    """Random writers and the numbers that they have committed."""

    pool: Pool
    inboxes: list[UUID]
    chance: random.Random
    written: dict[UUID, list[Entry]]
    writing: asyncio.Future[list[None]] | None = None

    async def write(self, connection: asyncpg.Connection) -> None:
        """A dozen transactions, some of which are rolled back."""
        for _ in range(12):
            transaction = connection.transaction()
            await transaction.start()
            await connection.fetchval("SELECT now()")
            entries = self._entries()
            try:
                for n in range(0, len(entries), 2):
                    await self._wander()
                    await append_on(connection, *entries[n : n + 2])
            except asyncpg.DeadlockDetectedError:
                # Sums of use are locked after heads: two statements in one transaction, which the
                # product never makes, may meet in the other order.
                await transaction.rollback()
                continue
            await self._wander()
            if self.chance.random() < 0.25:
                await transaction.rollback()
                continue
            await transaction.commit()
            for entry in entries:
                self.written[entry.workspace_id].append(entry)

    async def follow_inbox(self, me: UUID) -> None:
        """Read by number to the end."""
        cursor = 0
        while True:
            over = self._over
            page = await read_after(self.pool, me, cursor, limit=self.chance.randint(1, 5))
            assert page == list(range(cursor + 1, cursor + 1 + len(page)))
            cursor += len(page)
            if over and not page:
                break
        assert cursor == sum(entry.message_id is not None for entry in self.written[me])

    async def follow_record(self, me: UUID, start: UUID) -> None:
        """Read by row to the end."""
        seen = [start]
        while True:
            over = self._over
            page = await list_after(self.pool, me, seen[-1], limit=self.chance.randint(1, 5))
            seen.extend(page)
            if over and not page:
                break
        assert len(seen) == len(set(seen))
        assert set(seen[1:]) == {entry.activity_id for entry in self.written[me]}

    @property
    def _over(self) -> bool:
        return self.writing is not None and self.writing.done()

    def _entries(self) -> list[Entry]:
        """Some for each of some inboxes, which are taken in order."""
        return [
            self.chance.choice([message, note])(me)
            for me in self.inboxes
            if self.chance.random() < 0.6
            for _ in range(self.chance.randint(1, 3))
        ]

    async def _wander(self) -> None:
        """Let others go first, or not."""
        for _ in range(self.chance.choice([0, 0, 1, 3])):
            await asyncio.sleep(0)
        if self.chance.random() < 0.2:
            await asyncio.sleep(self.chance.random() / 200)


@pytest.mark.parametrize("seed", range(4))
async def test_readers_see_everything_once_in_order_whatever_the_writers_do(
    pool: Pool, connections: list[asyncpg.Connection], seed: int
) -> None:
    """Open transactions, many inboxes in one, rollbacks, commits in any order."""
    inboxes = sorted(await hire(pool, 3))
    starts = {me: note(me) for me in inboxes}
    await append_on(connections[0], *starts.values())
    scene = Scene(pool, inboxes, random.Random(seed), {me: [] for me in inboxes})
    scene.writing = asyncio.gather(*(scene.write(connection) for connection in connections))
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(
            scene.writing,
            *(scene.follow_inbox(me) for me in inboxes),
            *(scene.follow_record(me, start.activity_id) for me, start in starts.items()),
        )


async def test_readers_of_every_worker_see_all_that_any_worker_writes(
    pool: Pool, slices: list[Slice]
) -> None:
    """Messages, tasks and results by three workers; a reader at each, woken by all."""
    me, *peers = await hire(pool, 4)
    expected = 3 * (20 + 15 + 15)

    async def write(worker: Slice, peer: UUID) -> None:
        async def deal() -> None:
            name = await worker.delegate(me, peer)
            await worker.update(peer, name, "completed", "done")

        await asyncio.gather(
            *(worker.records.append(message(me, sender_id=peer)) for _ in range(20)),
            *(worker.delegate(peer, me) for _ in range(15)),
            *(deal() for _ in range(15)),
        )

    async def read(worker: Slice) -> list[tuple[int, str]]:
        seen: list[tuple[int, str]] = []
        with worker.wakeups.watch(me) as flag:
            while len(seen) < expected:
                flag.clear()
                page = await worker.reads.read(InboxQuery(me, len(seen), 64))
                for row in page.items:
                    assert row.seq == len(seen) + 1
                    seen.append((row.seq, row.message_id))
                if not page.items:
                    await flag.wait(6)
        return seen

    async with asyncio.timeout(PATIENCE):
        seen, *others = (
            await asyncio.gather(
                *(read(worker) for worker in slices),
                *(write(worker, peer) for worker, peer in zip(slices, peers, strict=True)),
            )
        )[:3]
    assert others == [seen, seen]
    rows = await pool.fetch(
        "SELECT seq, message_id FROM inbox_items WHERE workspace_id = $1 ORDER BY seq", me
    )
    assert [tuple(row) for row in rows] == seen


async def test_item_from_memory_is_the_item_from_the_table(pool: Pool, slices: list[Slice]) -> None:
    """A reader that is up to date gets what the writer knows, field for field."""
    one, two, _ = slices
    me, peer = await hire(pool, 2)
    await one.records.append(message(me))
    await one.reads.read(InboxQuery(me, 1, 64))
    name = await one.delegate(peer, me, "a task")
    own = await one.delegate(me, peer)
    await one.update(peer, own, "failed", error="why")
    body = '{"text":"' + "x" * 15_000 + '"}'
    await one.records.append(
        message(me, sender_id=peer, source_id=peer, request_body=body, bytes=len(body))
    )
    remembered = await one.reads.read(InboxQuery(me, 1, 64))
    stored = await two.reads.look(InboxQuery(me, 1, 64))
    assert [row.seq for row in remembered.items] == [2, 3, 4]
    assert remembered.items[0].delegation_id == name
    for ours, theirs in zip(remembered.items, stored.items, strict=True):
        assert ours._replace(body=None) == theirs._replace(body=None)
        assert _parsed(ours.body) == _parsed(theirs.body)
    assert remembered._replace(items=[]) == stored._replace(items=[])


async def test_reader_sees_what_is_given_back_although_it_is_up_to_date(
    pool: Pool, slices: list[Slice]
) -> None:
    """Whoever reads first does not hide the redelivery from the others."""
    worker = slices[0]
    (me,) = await hire(pool, 1)
    for _ in range(3):
        await worker.records.append(message(me))
    async with pool.acquire() as conn:
        await acks.nack(conn, me, 2, delay=0, reason="", epoch=None)
    worker.wakeups.wake([me])
    for after in (3, 0, 3):
        page = await worker.reads.read(InboxQuery(me, after, 64))
        assert (2, 1) in [(row.seq, row.deliveries) for row in page.items]


async def test_acked_item_does_not_come_from_memory(pool: Pool, slices: list[Slice]) -> None:
    worker = slices[0]
    (me,) = await hire(pool, 1)
    await worker.reads.read(InboxQuery(me, 0, 64))
    for _ in range(4):
        await worker.records.append(message(me))
    await worker.reads.ack(acks.Ack(me, 1, (3,), None))
    page = await worker.reads.read(InboxQuery(me, 0, 64))
    assert ([row.seq for row in page.items], page.acked_seq, page.head_seq) == ([2, 4], 1, 4)


async def test_news_of_another_worker_reaches_a_reader_that_is_up_to_date(
    pool: Pool, slices: list[Slice]
) -> None:
    one, two, _ = slices
    (me,) = await hire(pool, 1)
    await one.records.append(message(me))
    with one.wakeups.watch(me) as flag:
        await one.reads.read(InboxQuery(me, 1, 64))
        flag.clear()
        async with pool.acquire() as conn:
            await acks.nack(conn, me, 1, delay=0, reason="", epoch=None)
        two.wakeups.wake([me])
        assert await flag.wait(5)
    page = await one.reads.read(InboxQuery(me, 1, 64))
    assert [(row.seq, row.deliveries) for row in page.items] == [(1, 1)]


async def test_answer_that_news_has_overtaken_is_not_remembered(
    pool: Pool, slices: list[Slice]
) -> None:
    """The page was read before the news, and arrives after it."""
    (me,) = await hire(pool, 1)
    want = InboxQuery(me, 0, 64)
    page = await slices[0].reads.look(want)
    cache = InboxCache()
    cache.begin(want)
    cache.forget(me)
    cache.store(want, page)
    assert cache.get(want) is None
    cache.begin(want)
    cache.store(want, page)
    assert cache.get(want) == page


async def test_what_the_table_has_proven_stays_remembered(pool: Pool, slices: list[Slice]) -> None:
    """Past its age a page is asked for again, unless the safety check found it true meanwhile."""
    (me,) = await hire(pool, 1)
    await slices[0].records.append(message(me))
    want = InboxQuery(me, 1, 64)
    page = await slices[0].reads.look(want)
    position = (await reads.positions(pool, [me]))[me]
    now = 0.0
    cache = InboxCache(clock=lambda: now)
    cache.begin(want)
    cache.store(want, page)
    now = 13
    assert cache.get(want) is None
    for wrong in (
        position._replace(head_seq=2),
        position._replace(acked_seq=1),
        position._replace(lease_epoch=1),
        position._replace(workspace_status="paused"),
    ):
        cache.confirm(me, wrong, 10)
        assert cache.get(want) is None
    cache.confirm(me, position, 10)
    assert cache.get(want) == page
    now = 61
    cache.confirm(me, position, now)
    assert cache.get(want) is None


def _parsed(body: str | None) -> object:
    return None if body is None else json.loads(body)
