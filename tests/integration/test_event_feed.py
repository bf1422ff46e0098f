"""The feed over real tables: no event is skipped or doubled, whoever reads it, from wherever."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import asyncpg
import pytest

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.db.wakeups import Flag, Wakeups
from molecule_grpc.events import store, tail
from molecule_grpc.events.feed import EventFeed
from molecule_grpc.events.names import EventType
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.events.tail import EventTail
from molecule_grpc.events.tokens import ResumeTokens
from molecule_grpc.events.values import EVERYTHING, Position, Scope, StoredEvent
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.server.streams import OpenStreams, StreamGuard
from molecule_grpc.settings.settings import Settings
from tests.settings import unread_of
from tests.waiting import PATIENCE

ORGANIZATIONS = [UUID(int=21), UUID(int=22)]
WORKSPACES = [UUID(int=31), UUID(int=32), UUID(int=33)]
BEGINNING = Position(0, 0)
_INSERT = """
    INSERT INTO {table} (id, event_type, organization_id, workspace_id, payload)
    VALUES ($1, $2, $3, $4, $5::jsonb)
"""


async def write(
    conn: Connection,
    *kinds: EventType,
    organization: UUID = ORGANIZATIONS[0],
    workspace: UUID = WORKSPACES[0],
    payload: str = "{}",
) -> list[UUID]:
    """One event of each kind, in this order; their ids."""
    ids = [new_id() for _ in kinds]
    for each, kind in zip(ids, kinds, strict=True):
        table = "structure_events" if kind.kept else "live_events"
        await conn.execute(
            _INSERT.format(table=table), each, kind, organization, workspace, payload
        )
    return ids


async def pages(
    pool: Pool, after: Position, *, limit: int, scope: Scope = EVERYTHING, max_bytes: int = 10**6
) -> list[StoredEvent]:
    """Everything after a place, page by page."""
    found: list[StoredEvent] = []
    more = True
    while more:
        page = await store.read(pool, after, scope, limit=limit, max_bytes=max_bytes)
        assert len(page.events) <= limit
        found += page.events
        after, more = page.end, page.more
    return found


KEPT, LIVE = EventType.DELEGATION_SENT, EventType.ACTIVITY_LOGGED
BOTH_KINDS = (LIVE, KEPT, KEPT, LIVE, LIVE, KEPT, LIVE, KEPT)


async def _a_transaction_of_both_kinds(pool: Pool) -> list[UUID]:
    async with pool.acquire() as conn:
        # Live events alone move a sequence of their own ahead, if there is one.
        await write(conn, LIVE, LIVE, LIVE)
        async with conn.transaction():
            return await write(conn, *BOTH_KINDS)


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_a_transaction_of_both_kinds_is_read_once_and_in_order(
    pool: Pool, limit: int
) -> None:
    """With pages smaller than it, and resumed behind each of its events."""
    after = await store.now(pool)
    written = await _a_transaction_of_both_kinds(pool)
    seen = [event for event in await pages(pool, after, limit=limit) if event.id in written]
    assert [event.id for event in seen] == written
    for index, event in enumerate(seen):
        later = await pages(pool, event.place, limit=limit)
        assert [one.id for one in later] == written[index + 1 :]


async def test_with_two_sequences_it_would_not_be(pool: Pool) -> None:
    """The test above bites: with a sequence of their own, live events come out of order."""
    await pool.execute("CREATE SEQUENCE live_positions")
    await pool.execute(
        "ALTER TABLE live_events ALTER COLUMN position SET DEFAULT nextval('live_positions')"
    )
    with pytest.raises(AssertionError):
        await test_a_transaction_of_both_kinds_is_read_once_and_in_order(pool, 2)


async def test_what_an_open_transaction_may_still_write_is_waited_for(pool: Pool) -> None:
    """Later transactions that have committed are not read before it has ended."""
    after = await store.now(pool)
    async with pool.acquire() as early:
        async with early.transaction():
            first = await write(early, KEPT)
            async with pool.acquire() as late:
                second = await write(late, LIVE)
            page = await store.read(pool, after, EVERYTHING, limit=9, max_bytes=10**6)
            assert page.events == []
        assert [one.id for one in await pages(pool, page.end, limit=9)] == first + second


async def test_a_page_ends_by_bytes(pool: Pool) -> None:
    """With at least one event, however large."""
    after = await store.now(pool)
    async with pool.acquire() as conn:
        for _ in range(6):
            await write(conn, KEPT, payload=f'{{"text": "{"x" * 1000}"}}')
    for max_bytes, most in ((1, 1), (2500, 3), (10**6, 6)):
        page = await store.read(pool, after, EVERYTHING, limit=9, max_bytes=max_bytes)
        assert (len(page.events), page.more) == (most, most < 6)
        assert len(await pages(pool, after, limit=9, max_bytes=max_bytes)) == 6


async def test_a_page_without_events_moves_on(pool: Pool) -> None:
    """So that a reader whose scope is quiet catches up with the others."""
    after = await store.now(pool)
    async with pool.acquire() as conn:
        await write(conn, KEPT)
    nothing = Scope(UUID(int=99), None, ())
    page = await store.read(pool, after, nothing, limit=9, max_bytes=10**6)
    assert page.events == []
    assert page.end > after
    assert await pages(pool, page.end, limit=9) == []


@pytest.fixture
def wakeups() -> Wakeups:
    return Wakeups(None, "here")


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of 20 events, so small that every reader sometimes falls behind."""
    monkeypatch.setattr(tail, "_WINDOW_EVENTS", 20)
    monkeypatch.setattr(tail, "PAGE_EVENTS", 7)
    monkeypatch.setattr("molecule_grpc.events.feed.PAGE_EVENTS", 7)


@asynccontextmanager
async def feed_of(pool: Pool, wakeups: Wakeups) -> AsyncIterator[EventFeed]:
    """A worker's feed, running."""
    followed = EventTail(pool, wakeups)
    running = asyncio.create_task(followed.run())
    try:
        with EventReaders.of(wakeups) as readers:
            tokens = ResumeTokens("", kept_days=30)
            yield EventFeed(pool, followed, Authenticator(pool, Settings().auth), readers, tokens)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def guard_of(flag: Flag) -> StreamGuard:
    """For a stream that nothing ends."""
    return StreamGuard(flag, OpenStreams(), unread_of(), beat=3600, max_age=3600)


class Reader:
    """Follows a scope and notes its events."""

    def __init__(self, feed: EventFeed, scope: Scope, place: Position, pause: float = 0) -> None:
        self.scope = scope
        self.seen: list[UUID] = []
        self._more = asyncio.Event()
        self.task = asyncio.create_task(self._read(feed, place, pause))

    async def _read(self, feed: EventFeed, place: Position, pause: float) -> None:
        with feed.attend(self.scope) as flag:
            async for shown in feed.follow(self.scope, place, guard_of(flag)):
                assert isinstance(shown, StoredEvent)
                self.seen.append(shown.id)
                self._more.set()
                if pause:
                    await asyncio.sleep(random.random() * pause)  # a client's own pace

    async def has(self, count: int) -> None:
        """Wait until `count` events were seen."""
        async with asyncio.timeout(PATIENCE):
            while len(self.seen) < count:
                self._more.clear()
                await self._more.wait()

    async def close(self) -> None:
        """Leave."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def _writer(pool: Pool, wakeups: Wakeups, seed: int, transactions: int) -> None:
    """Transactions of several events that overlap with those of others."""
    choice = random.Random(seed)
    for _ in range(transactions):
        async with pool.acquire() as conn, conn.transaction():
            for _ in range(choice.randint(1, 4)):
                await write(
                    conn,
                    choice.choice((KEPT, LIVE)),
                    organization=choice.choice(ORGANIZATIONS),
                    workspace=choice.choice(WORKSPACES),
                )
                await asyncio.sleep(choice.random() * 0.004)
        wakeups.announce([store.CHANNEL_ALL])


@pytest.mark.usefixtures("small_window")
async def test_readers_from_anywhere_see_each_event_once_and_in_order(
    pool: Pool, wakeups: Wakeups
) -> None:
    """From the beginning or from now on, slow and fast, over memory and tables."""
    scopes = [
        EVERYTHING,
        Scope(ORGANIZATIONS[0], None, ()),
        Scope(ORGANIZATIONS[1], WORKSPACES[1], ()),
        Scope(None, WORKSPACES[2], (LIVE,)),
        Scope(None, None, (KEPT,)),
    ]
    beginning = await store.now(pool)
    async with feed_of(pool, wakeups) as feed:
        readers = [
            (Reader(feed, scope, beginning, pause), beginning)
            for scope in scopes
            for pause in (0, 0.004)
        ]
        writers = [asyncio.create_task(_writer(pool, wakeups, seed, 30)) for seed in range(4)]
        for _ in range(10):  # while they write, others join, at once or from where they had been
            await asyncio.sleep(0.05)
            place = await store.now(pool)
            readers += [(Reader(feed, random.choice(scopes), place), place)]
            readers += [(Reader(feed, random.choice(scopes), beginning), beginning)]
        await asyncio.gather(*writers)
        for reader, place in readers:
            expected = [one.id for one in await pages(pool, place, limit=50, scope=reader.scope)]
            await reader.has(len(expected))
            assert reader.seen == expected
        written = await pages(pool, beginning, limit=50)
        await asyncio.sleep(0.1)  # time for a doubled one to show
        for reader, _ in readers:
            assert len(set(reader.seen)) == len(reader.seen) <= len(written)
            await reader.close()


async def test_a_thousand_readers_cost_one_query(
    pool: Pool, wakeups: Wakeups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wake-up is one read for all of them, and each sees what is its own."""
    reads = 0
    read = store.read

    async def counting(*args: object, **named: object) -> object:
        nonlocal reads
        reads += 1
        return await read(*args, **named)  # type: ignore[arg-type]

    ids = [new_id() for _ in range(1000)]
    async with feed_of(pool, wakeups) as feed:
        first = Reader(feed, Scope(ORGANIZATIONS[1], None, ()), await store.now(pool))
        # The first event may come from the tables; the second shows that the tail has looked, so
        # that memory holds every place from here on.
        for number in (1, 2):
            async with pool.acquire() as conn:
                await write(conn, LIVE, organization=ORGANIZATIONS[1])
            wakeups.announce([store.CHANNEL_ALL])
            await first.has(number)
        place = await store.now(pool)
        monkeypatch.setattr(store, "read", counting)
        readers = [Reader(feed, Scope(ORGANIZATIONS[0], each, ()), place) for each in ids]
        async with pool.acquire() as conn, conn.transaction():
            for each in ids[:100]:
                await write(conn, LIVE, workspace=each)
        wakeups.announce([store.CHANNEL_ALL])
        for reader in readers[:100]:
            await reader.has(1)
        # One for the transaction; a slow machine has time for looks that find nothing.
        assert reads < 20
        assert all(reader.seen == [] for reader in readers[100:])
        await asyncio.gather(*(reader.close() for reader in (first, *readers)))


async def test_what_happened_before_the_tail_looked_is_not_lost(
    pool: Pool, wakeups: Wakeups
) -> None:
    """Between a reader's beginning and the first look of its worker."""
    for _ in range(20):
        place = await store.now(pool)
        async with feed_of(pool, wakeups) as feed:
            reader = Reader(feed, EVERYTHING, place)
            async with pool.acquire() as conn:
                [written] = await write(conn, KEPT)
            await reader.has(1)
            assert reader.seen == [written]
            await reader.close()


async def test_readers_learn_that_the_tables_cannot_be_read(pool: Pool, wakeups: Wakeups) -> None:
    """Their streams end with the error; who comes back later goes on without a gap."""
    async with feed_of(pool, wakeups) as feed:
        place = await store.now(pool)
        reader = Reader(feed, EVERYTHING, place)
        async with pool.acquire() as conn:
            await write(conn, LIVE)
        await reader.has(1)
        await pool.execute("ALTER TABLE live_events RENAME TO away")
        wakeups.announce([store.CHANNEL_ALL])
        with pytest.raises(asyncpg.UndefinedTableError):
            await asyncio.wait_for(reader.task, PATIENCE)
        await pool.execute("ALTER TABLE away RENAME TO live_events")
        again = Reader(feed, EVERYTHING, place)
        async with pool.acquire() as conn:
            await write(conn, KEPT)
        await again.has(2)
        await again.close()


def _walked(plan: object) -> set[str]:
    """Tables that a plan reads from end to end."""
    if isinstance(plan, list):
        return set().union(*map(_walked, plan))
    if not isinstance(plan, dict):
        return set()
    found = set().union(*map(_walked, plan.values()))
    return found | {plan["Relation Name"]} if plan.get("Node Type") == "Seq Scan" else found


async def test_reading_and_pruning_find_their_rows_by_an_index(pool: Pool) -> None:
    """However many events there are: all readers of a worker wait for this statement."""
    for table in ("structure_events", "live_events"):
        await pool.execute(
            f"""
            INSERT INTO {table} (id, event_type, organization_id, workspace_id, xact)
            SELECT gen_random_uuid(), 'DELEGATION_SENT', $1, $2, n::text::xid8
            FROM generate_series(1, 30000) n
            """,
            *(ORGANIZATIONS[0], WORKSPACES[0]),
        )
        await pool.execute(f"ANALYZE {table}")
    walk = await pool.fetchval("EXPLAIN (FORMAT json) SELECT * FROM live_events")
    assert _walked(json.loads(walk)) == {"live_events"}  # so it would be seen
    scopes = (EVERYTHING, Scope(ORGANIZATIONS[0], None, ()), Scope(None, None, (KEPT,)))
    for scope in scopes:
        bounds, values = store._bounds(scope, 5)
        sql = store._READ.format(bounds=bounds)
        plan = await pool.fetchval(f"EXPLAIN (FORMAT json) {sql}", 29_900, 0, 200, 10**6, *values)
        assert _walked(json.loads(plan)) == set()
    for table in ("structure_events", "live_events"):
        sql = store._PRUNE.format(table=table)
        plan = await pool.fetchval(f"EXPLAIN (FORMAT json) {sql}", 2000, 600.0)
        assert _walked(json.loads(plan)) == set()


async def test_retention_goes_in_batches_and_passes_by_what_others_hold(pool: Pool) -> None:
    """All old events are deleted, in batches; rows locked by another worker are left to it."""
    await pool.execute(
        """
        INSERT INTO live_events (id, event_type, organization_id, created_at)
        SELECT gen_random_uuid(), 'ACTIVITY_LOGGED', $1,
               now() - CASE WHEN n <= 5000 THEN interval '11 minutes' ELSE interval '9 minutes' END
        FROM generate_series(1, 5010) n
        """,
        ORGANIZATIONS[0],
    )
    async with pool.acquire() as other, other.transaction():
        held = await other.fetch(
            "SELECT id FROM live_events ORDER BY xact, position LIMIT 10 FOR UPDATE"
        )
        await store.prune(pool, live_minutes=10, kept_days=30)
        assert await pool.fetchval("SELECT count(*) FROM live_events") == 10 + len(held)
    await store.prune(pool, live_minutes=10, kept_days=30)
    assert await pool.fetchval("SELECT count(*) FROM live_events") == 10
