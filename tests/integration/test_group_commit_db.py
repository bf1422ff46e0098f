"""Promises of the batcher, the writer and the pool on a real Postgres."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from molecule_grpc.db.group_commit import GroupCommit
from molecule_grpc.db.pool import (
    Fault,
    Pool,
    Writer,
    connect,
    connect_pool,
    database_errors,
    fault,
    translate,
)
from molecule_grpc.kernel.errors import Unavailable

HEARTBEAT = """
    UPDATE heartbeats h SET beats = beats + 1
    FROM unnest($1::text[]) AS b(id) WHERE h.id = b.id::uuid
    RETURNING h.id::text, h.beats
"""
ROWS_AFTER = """
    SELECT a.ordinal, array_agg(r.seq ORDER BY r.seq) FILTER (WHERE r.seq IS NOT NULL) AS seqs
    FROM unnest($1::int[], $2::int[]) WITH ORDINALITY AS a(inbox, after, ordinal)
    LEFT JOIN LATERAL (
        SELECT seq FROM inbox_rows WHERE inbox = a.inbox AND seq > a.after ORDER BY seq LIMIT 3
    ) r ON true
    GROUP BY a.ordinal ORDER BY a.ordinal
"""


@pytest.fixture(autouse=True)
async def tables(pool: Pool) -> None:
    await pool.execute("""
        CREATE TABLE heartbeats (id uuid PRIMARY KEY, beats int NOT NULL DEFAULT 0);
        CREATE TABLE inbox_rows (inbox int, seq int, PRIMARY KEY (inbox, seq));
    """)


@pytest.fixture
async def writer(database_url: str) -> AsyncIterator[Writer]:
    writer = Writer(database_url)
    yield writer
    await writer.close()


def heartbeats(writer: Writer) -> GroupCommit[str, int]:
    async def flush(ids: Sequence[str]) -> list[int | Exception]:
        found = {row["id"]: row["beats"] for row in await writer.fetch(HEARTBEAT, ids)}
        return [found.get(wanted) or LookupError(wanted) for wanted in ids]

    return GroupCommit("heartbeat", flush, key=lambda wanted: wanted)


async def add_workspaces(pool: Pool, count: int) -> list[str]:
    ids = [str(uuid.uuid4()) for _ in range(count)]
    await pool.execute("INSERT INTO heartbeats SELECT unnest($1::text[])::uuid", ids)
    return ids


async def backend_of(writer: Writer) -> int:
    [row] = await writer.fetch("SELECT pg_backend_pid() AS pid")
    pid: int = row["pid"]
    return pid


async def test_malformed_ids_fail_alone_and_every_good_heartbeat_is_stored_once(
    pool: Pool, writer: Writer
) -> None:
    ids = await add_workspaces(pool, 380)
    items = list(ids)
    for place in range(0, 400, 20):
        items.insert(place, f"not-a-uuid-{place}")
    batcher = heartbeats(writer)
    calls = [asyncio.create_task(batcher.submit(item)) for item in items]
    await batcher.start()
    got = await asyncio.gather(*calls, return_exceptions=True)
    await batcher.stop()

    failed = [item for item, it in zip(items, got, strict=True) if isinstance(it, BaseException)]
    assert failed == [item for item in items if item.startswith("not-a-uuid")]
    assert await pool.fetchval("SELECT count(*) FROM heartbeats WHERE beats = 1") == 380


async def test_an_unknown_id_fails_alone(pool: Pool, writer: Writer) -> None:
    [known] = await add_workspaces(pool, 1)
    batcher = heartbeats(writer)
    calls = [asyncio.create_task(batcher.submit(wanted)) for wanted in (known, str(uuid.uuid4()))]
    await batcher.start()
    found, missing = await asyncio.gather(*calls, return_exceptions=True)
    await batcher.stop()
    assert found == 1
    assert isinstance(missing, LookupError)


async def test_repeated_heartbeats_of_one_workspace_all_count(pool: Pool, writer: Writer) -> None:
    [known] = await add_workspaces(pool, 1)
    batcher = heartbeats(writer)
    await batcher.start()
    assert await asyncio.gather(*(batcher.submit(known) for _ in range(20))) == list(range(1, 21))
    await batcher.stop()


async def test_a_deadlocked_batch_is_repeated_and_answered(pool: Pool, writer: Writer) -> None:
    low, high = sorted(await add_workspaces(pool, 2))
    beat = "UPDATE heartbeats SET beats = beats + 1 WHERE id = $1"
    attempts = 0
    holds_low, holds_high = asyncio.Event(), asyncio.Event()

    async def flush(items: Sequence[str]) -> list[str]:
        nonlocal attempts
        attempts += 1
        async with writer.connection() as connection, connection.transaction():
            # Ours notices the deadlock first, so ours is the one to be cancelled.
            await connection.execute("SET LOCAL deadlock_timeout = '50ms'")
            await connection.execute(beat, low)
            holds_low.set()
            await holds_high.wait()
            await connection.execute(beat, high)
        return ["done"] * len(items)

    batcher = GroupCommit("deadlock", flush)
    await batcher.start()
    call = asyncio.create_task(batcher.submit("any"))
    async with pool.acquire() as rival, rival.transaction():
        await rival.execute("SET LOCAL deadlock_timeout = '30s'")
        await rival.execute(beat, high)
        holds_high.set()
        await holds_low.wait()
        await rival.execute(beat, low)
    assert await call == "done"
    # The rival may be so slow to take the lock that ours has it again, and loses once more.
    assert attempts in (2, 3, 4)
    assert await pool.fetchval("SELECT sum(beats) FROM heartbeats") == 4
    await batcher.stop()


async def test_many_readers_share_one_statement(pool: Pool, writer: Writer) -> None:
    await pool.execute(
        "INSERT INTO inbox_rows SELECT i, s FROM generate_series(1, 50) i, generate_series(1, 9) s"
    )
    sizes: list[int] = []

    async def flush(asked: Sequence[tuple[int, int]]) -> list[list[int]]:
        rows = await writer.fetch(ROWS_AFTER, *map(list, zip(*asked, strict=True)))
        return [row["seqs"] or [] for row in rows]

    batcher = GroupCommit("inbox page", flush, observe=lambda size, *_: sizes.append(size))
    calls = [asyncio.create_task(batcher.submit((n, n % 10))) for n in range(1, 51)]
    await batcher.start()
    assert await asyncio.gather(*calls) == [
        list(range(n % 10 + 1, min(n % 10 + 3, 9) + 1)) for n in range(1, 51)
    ]
    assert sizes == [50]
    await batcher.stop()


async def test_a_lost_connection_fails_the_call_in_flight_and_the_next_reconnects(
    pool: Pool, writer: Writer
) -> None:
    pid = await backend_of(writer)
    batcher = GroupCommit[None, asyncpg.Record](
        "sleep", lambda _: writer.fetch("SELECT pg_sleep(30)")
    )
    await batcher.start()
    calls = [asyncio.create_task(batcher.submit(None)) for _ in range(3)]
    while not await pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", pid
    ):
        pass
    assert await pool.fetchval("SELECT pg_terminate_backend($1)", pid)
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, BaseException)
        assert fault(outcome) is Fault.OUTAGE
    assert await backend_of(writer) != pid
    await batcher.stop()


async def test_a_connection_lost_while_idle_is_replaced_unnoticed(
    pool: Pool, writer: Writer
) -> None:
    pid = await backend_of(writer)
    async with writer.connection() as connection:
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _: closed.set())
    await pool.execute("SELECT pg_terminate_backend($1)", pid)
    await closed.wait()
    assert await backend_of(writer) != pid


@pytest.mark.parametrize("padding", [0, 20_000], ids=["short", "long"])
async def test_a_writer_prepares_its_statement_once(database_url: str, padding: int) -> None:
    """On opening, and never again, however long the statement is."""
    statement = f"{HEARTBEAT} -- {'x' * padding}"
    writer = Writer(database_url, statement)
    await writer.open()
    for _ in range(3):
        await writer.fetch(statement, [str(uuid.uuid4())])
    [row] = await writer.fetch(
        "SELECT count(*), sum(generic_plans + custom_plans) AS runs"
        " FROM pg_prepared_statements WHERE statement = $1",
        statement,
    )
    await writer.close()
    assert (row["count"], row["runs"]) == (1, 4)


async def test_a_statement_that_is_merely_wrong_keeps_the_connection(writer: Writer) -> None:
    pid = await backend_of(writer)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await writer.fetch("SELECT 1 / 0")
    assert await backend_of(writer) == pid


async def test_a_pooled_connection_keeps_its_session_and_loses_its_open_transaction(
    database_url: str,
) -> None:
    pool = await connect_pool(database_url, min_size=1, max_size=1)
    async with pool.acquire() as connection:
        await connection.execute("CREATE TEMP TABLE session_only (n int)")
        await connection.execute("BEGIN; INSERT INTO session_only VALUES (1)")
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # warns of the leak
    asyncio.get_running_loop().set_exception_handler(None)
    left = await pool.fetchval("SELECT count(*) FROM session_only")
    await pool.close()
    assert left == 0


async def test_sessions_are_bounded_and_named(pool: Pool) -> None:
    limits = await pool.fetch(
        "SELECT name, setting || coalesce(unit, '') AS value FROM pg_settings WHERE name = ANY($1)",
        ["application_name", "idle_in_transaction_session_timeout", "jit", "statement_timeout",
         "TimeZone"],
    )  # fmt: skip
    assert dict(map(tuple, limits)) == {
        "application_name": "molecule-grpc",
        "idle_in_transaction_session_timeout": "60000ms",
        "jit": "off",
        "statement_timeout": "30000ms",
        "TimeZone": "UTC",
    }


async def test_json_travels_as_text(pool: Pool) -> None:
    assert await pool.fetchval("SELECT $1::jsonb", '{"a":1}') == '{"a": 1}'


@pytest.mark.parametrize(
    "sql",
    [
        "SET LOCAL statement_timeout = 1; SELECT pg_sleep(30)",
        "SET LOCAL lock_timeout = 1; LOCK heartbeats",
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "BEGIN READ ONLY; CREATE TABLE refused ()",
    ],
)
async def test_outages_are_named_without_a_word_of_sql(
    pool: Pool, database_url: str, sql: str
) -> None:
    connection = await connect(database_url)
    async with pool.acquire() as rival, rival.transaction():
        await rival.execute("LOCK heartbeats IN ACCESS SHARE MODE")
        with pytest.raises(Unavailable) as named, database_errors():
            await connection.execute(sql)
    assert named.value.reason == "DATABASE_UNAVAILABLE"
    assert str(named.value) == "the database is not available, try again"
    await connection.close()


async def test_a_database_that_is_not_there_is_an_outage() -> None:
    with pytest.raises(asyncpg.ClientCannotConnectError) as failed:
        await connect("postgresql://nobody@127.0.0.1:1/nothing")
    assert fault(failed.value) is Fault.OUTAGE
    assert isinstance(translate(failed.value), Unavailable)


async def test_a_closed_pool_is_an_outage(database_url: str) -> None:
    pool = await connect_pool(database_url, min_size=1, max_size=1)
    await pool.close()
    with pytest.raises(Unavailable), database_errors():
        await pool.fetchval("SELECT 1")


@pytest.mark.parametrize(
    "exc", [asyncpg.UniqueViolationError("x"), asyncpg.ForeignKeyViolationError("x"), KeyError(1)]
)
def test_what_a_store_must_understand_is_left_alone(exc: Exception) -> None:
    with pytest.raises(type(exc)), database_errors():
        raise exc


@pytest.mark.parametrize("exc", [OSError("disk"), TimeoutError(), Unavailable("other service")])
def test_what_need_not_come_from_the_database_is_not_named_after_it(exc: Exception) -> None:
    assert translate(exc) is None
