"""A backup holds one moment of an installation; a restore puts that moment back, or refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from molecule_grpc.backup.backup import back_up
from molecule_grpc.backup.manifest import MANIFEST, BackupError
from molecule_grpc.backup.programs import without_password
from molecule_grpc.backup.restore import Restored, restore
from molecule_grpc.db.embedded.failures import DataDirectoryInUseError
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.installation import generation
from molecule_grpc.db.migrate import migrate
from molecule_grpc.db.pool import Pool, connect_pool
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.events import store as events
from molecule_grpc.events.names import EventType
from molecule_grpc.events.store import Event
from molecule_grpc.events.values import EVERYTHING, Position
from molecule_grpc.settings.settings import Settings
from tests.conftest import MIGRATIONS, execute, with_database
from tests.integration.agents import append_on, hire, message
from tests.integration.uploads import uploads_of
from tests.seaweed import BUCKET, Seaweed, new_prefix
from tests.waiting import until

_FIRST_RELEASE = 9  # The last migration of 0.1.0.


@pytest.fixture
async def empty_database(postgres: str) -> AsyncIterator[str]:
    """A database without any table."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    await execute(postgres, f"CREATE DATABASE {name}")
    yield with_database(postgres, name)
    await execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def settings(database_url: str, data_dir: Path, **more: str) -> Settings:
    return Settings.from_env(
        {"DATABASE_URL": database_url, "MOLECULE_DATA_DIR": str(data_dir), **more}
    )


@pytest.fixture
def place() -> Iterator[Path]:
    """A data directory that the account of the embedded Postgres can reach."""
    with tempfile.TemporaryDirectory(prefix="molecule-backup-") as directory:
        yield Path(directory) / "data dir"


async def backed_up(database_url: str, tmp_path: Path, **more: str) -> Path:
    """A backup of this database."""
    directory = tmp_path / "backup"
    await asyncio.to_thread(back_up, settings(database_url, tmp_path / "data", **more), directory)
    return directory


async def restored(
    directory: Path, database_url: str, tmp_path: Path, *, schema: Path = MIGRATIONS, **more: str
) -> Restored:
    """The backup, put back into this database."""
    target = settings(database_url, tmp_path / "restored", **more)
    return await asyncio.to_thread(restore, target, directory, schema)


@pytest.fixture
async def backup(database_url: str, tmp_path: Path) -> Path:
    """A backup of this test's database."""
    return await backed_up(database_url, tmp_path)


@contextlib.asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def append(database_url: str, *entries: Entry) -> None:
    async with connected(database_url) as conn:
        await append_on(conn, *entries)


async def rows_of(database_url: str, table: str) -> list[str]:
    async with connected(database_url) as conn:
        return sorted(row[0] for row in await conn.fetch(f"SELECT t::text FROM {table} t"))


async def tables_of(database_url: str) -> list[str]:
    async with connected(database_url) as conn:
        rows = await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return sorted(row[0] for row in rows)


def manifest_of(directory: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((directory / MANIFEST).read_text())
    return found


def rewrite_manifest(directory: Path, **changes: object) -> None:
    (directory / MANIFEST).write_text(json.dumps(manifest_of(directory) | changes))


# What comes back.


async def test_every_row_comes_back(
    pool: Pool, database_url: str, empty_database: str, tmp_path: Path
) -> None:
    agents = await hire(pool, 2)
    await append(database_url, *(message(agents[0], f"message {n}") for n in range(50)))
    directory = await backed_up(database_url, tmp_path)
    await restored(directory, empty_database, tmp_path)
    for table in ("organizations", "workspaces", "workspace_auth_tokens", "activity_logs",
                  "inbox_items", "schema_migrations"):  # fmt: skip
        assert await rows_of(empty_database, table) == await rows_of(database_url, table), table


async def test_a_backup_shows_one_moment_of_a_busy_database(
    pool: Pool, database_url: str, empty_database: str, tmp_path: Path
) -> None:
    """Each transaction writes an item and its record: a backup has both or none of them."""
    [agent] = await hire(pool, 1)
    written: list[str] = []

    async def write() -> None:
        async with connected(database_url) as conn:
            while True:
                text = f"message {len(written)}"
                await append_on(conn, message(agent, text))
                written.append(text)

    async def counted() -> int:
        return len(written)

    writing = asyncio.create_task(write())
    await until(counted, lambda count: count >= 20)
    acknowledged = len(written)
    directory = await backed_up(database_url, tmp_path)
    later = len(written)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert later > acknowledged, "nothing was written during the backup"
    await restored(directory, empty_database, tmp_path)
    async with connected(empty_database) as conn:
        found = await conn.fetchrow(
            """SELECT max(h.last_seq), count(i), count(a), max(i.seq)
               FROM inbox_heads h JOIN inbox_items i USING (workspace_id)
               LEFT JOIN activity_logs a ON a.id = i.activity_id"""
        )
    assert found is not None
    head, items, records, newest = found
    assert acknowledged <= head == items == records == newest


async def test_restored_events_are_read_once_and_before_new_ones(
    pool: Pool, database_url: str, empty_database: str, tmp_path: Path
) -> None:
    """Numbers of transactions of an old cluster are beyond those of a new one."""
    organization = uuid.uuid4()

    async def happen(pool: Pool, count: int) -> list[uuid.UUID]:
        made = [Event.of(EventType.WORKSPACE_MOVED, organization, None) for _ in range(count)]
        async with pool.acquire() as conn:
            await events.keep(conn, made)
        return [event.id for event in made]

    early = await happen(pool, 2)
    late = await happen(pool, 2)
    # The order of transactions is not that of positions.
    await pool.execute(
        """UPDATE structure_events SET xact = (xact::text::bigint + 1000000000)::text::xid8,
                  position = CASE WHEN id = ANY($1) THEN position + 10 ELSE position END""",
        early,
    )
    await pool.execute("UPDATE structure_events SET position = 1 WHERE id = $1", late[0])
    await restored(await backed_up(database_url, tmp_path), empty_database, tmp_path)
    other = await connect_pool(empty_database, min_size=1, max_size=2)
    try:
        old = await events.read(other, Position(0, 0), EVERYTHING, limit=100, max_bytes=10**6)
        assert [event.id for event in old.events] == [*early, *late]
        assert all(event.place < old.end for event in old.events)
        new = await happen(other, 1)
        # An event is shown when every older transaction of the server has ended.
        page = await until(
            lambda: events.read(other, old.end, EVERYTHING, limit=100, max_bytes=10**6),
            lambda page: len(page.events) > 0,
        )
    finally:
        await other.close()
    assert [event.id for event in page.events] == new


async def test_the_planner_knows_restored_tables(
    pool: Pool, database_url: str, empty_database: str, tmp_path: Path
) -> None:
    await hire(pool, 20)
    await pool.execute("ANALYZE")
    await restored(await backed_up(database_url, tmp_path), empty_database, tmp_path)
    async with connected(empty_database) as conn:
        known = await conn.fetchval(
            "SELECT reltuples FROM pg_class WHERE oid = 'workspaces'::regclass"
        )
    assert known == await pool.fetchval("SELECT count(*) FROM workspaces")


async def test_files_of_an_object_store_come_back_under_another_prefix(
    pool: Pool, database_url: str, empty_database: str, tmp_path: Path, seaweed: Seaweed
) -> None:
    [agent] = await hire(pool, 1)
    prefix, new = new_prefix(), new_prefix()
    environment = seaweed.environment(prefix)
    async with uploads_of(pool, environment) as uploads:
        kept = await uploads.one(agent, b"kept" * 1000)
        gone = await uploads.one(agent, b"gone")
    seaweed.client.delete_object(Bucket=BUCKET, Key=f"{prefix}{gone}")
    directory = await backed_up(database_url, tmp_path, **environment)
    assert manifest_of(directory)["absent_files"] == [str(gone)]
    # Others may read the directory, if it was there before; not what tenants uploaded.
    assert (directory / "objects").stat().st_mode & 0o077 == 0
    await restored(
        directory, empty_database, tmp_path, schema=MIGRATIONS, **seaweed.environment(new)
    )
    assert seaweed.keys(new) == [str(kept)]
    body = seaweed.client.get_object(Bucket=BUCKET, Key=f"{new}{kept}")["Body"].read()
    assert body == b"kept" * 1000


async def test_files_of_an_object_store_need_one_at_the_restore(
    pool: Pool, database_url: str, empty_database: str, tmp_path: Path, seaweed: Seaweed
) -> None:
    [agent] = await hire(pool, 1)
    environment = seaweed.environment(new_prefix())
    async with uploads_of(pool, environment) as uploads:
        await uploads.one(agent)
    with pytest.raises(BackupError, match="MOLECULE_S3_BUCKET"):
        await backed_up(database_url, tmp_path)
    assert not list((tmp_path / "backup").iterdir())
    directory = await backed_up(database_url, tmp_path, **environment)
    with pytest.raises(BackupError, match="MOLECULE_S3_BUCKET"):
        await restored(directory, empty_database, tmp_path)
    assert await tables_of(empty_database) == []


async def test_the_operators_token_comes_back(
    database_url: str, empty_database: str, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "admin_token").write_text("secret\n")
    directory = await backed_up(database_url, tmp_path)
    await restored(directory, empty_database, tmp_path)
    copy = tmp_path / "restored" / "admin_token"
    assert copy.read_text() == "secret\n"
    assert copy.stat().st_mode & 0o077 == 0
    assert directory.stat().st_mode & 0o077 == 0


async def test_an_older_schema_is_migrated(
    backup: Path, empty_database: str, tmp_path: Path
) -> None:
    newer = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, newer)
    count = len(list(newer.glob("*.up.sql")))
    (newer / f"{count + 1:04d}_later.up.sql").write_text("CREATE TABLE later (x int);")
    (newer / f"{count + 1:04d}_later.down.sql").write_text("DROP TABLE later;")
    done = await restored(backup, empty_database, tmp_path, schema=newer)
    assert done.migrated == [f"{count + 1:04d}_later up"]
    assert "later" in await tables_of(empty_database)


async def test_a_backup_of_the_first_release_is_migrated(
    pool: Pool, database_url: str, empty_database: str, tmp_path: Path
) -> None:
    """Its schema has no keys of the installation, and numbers that only Postgres may give."""
    await hire(pool, 1)
    await migrate(database_url, MIGRATIONS, to=_FIRST_RELEASE)
    await pool.execute(
        "INSERT INTO structure_events (id, event_type, organization_id, payload)"
        " SELECT gen_random_uuid(), 'WORKSPACE_ONLINE', organization_id, '{}' FROM workspaces"
    )
    directory = await backed_up(database_url, tmp_path)
    done = await restored(directory, empty_database, tmp_path)
    assert len(done.migrated) == len(list(MIGRATIONS.glob("*.up.sql"))) - _FIRST_RELEASE
    there = await connect_pool(empty_database, min_size=1, max_size=1)
    try:
        assert await there.fetchval("SELECT count(*) FROM workspaces") == 1
        assert await there.fetchval("SELECT min(xact::text) FROM structure_events") == "1"
        assert await generation(there)
    finally:
        await there.close()


# What is refused.


async def test_a_newer_schema_is_refused(backup: Path, empty_database: str, tmp_path: Path) -> None:
    older = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, older)
    for last in sorted(older.iterdir())[-2:]:
        last.unlink()
    with pytest.raises(BackupError, match="newer than this program"):
        await restored(backup, empty_database, tmp_path, schema=older)
    assert await tables_of(empty_database) == []


async def test_another_schema_of_the_same_number_is_refused(
    backup: Path, empty_database: str, tmp_path: Path
) -> None:
    rewrite_manifest(backup, schema_checksum="0" * 64)
    with pytest.raises(BackupError, match="not the one that this program knows"):
        await restored(backup, empty_database, tmp_path)


async def test_a_newer_format_is_refused(backup: Path, empty_database: str, tmp_path: Path) -> None:
    rewrite_manifest(backup, format=2)
    with pytest.raises(BackupError, match="format 2"):
        await restored(backup, empty_database, tmp_path)


async def test_a_backup_without_a_manifest_is_refused_as_interrupted(
    backup: Path, empty_database: str, tmp_path: Path
) -> None:
    (backup / MANIFEST).unlink()
    with pytest.raises(BackupError, match="interrupted"):
        await restored(backup, empty_database, tmp_path)
    with pytest.raises(BackupError, match="not empty"):
        await backed_up(empty_database, tmp_path)


@pytest.mark.parametrize("harm", ["changed", "cut", "missing"])
async def test_a_damaged_backup_is_refused(
    backup: Path, empty_database: str, tmp_path: Path, harm: str
) -> None:
    victim = max((backup / "database").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    if harm == "missing":
        victim.unlink()
    else:
        victim.write_bytes(data if harm == "changed" else data[:-1])
    with pytest.raises(BackupError, match=f"damaged: database/{victim.name}"):
        await restored(backup, empty_database, tmp_path)
    assert await tables_of(empty_database) == []


async def test_a_damaged_manifest_is_refused(
    backup: Path, empty_database: str, tmp_path: Path
) -> None:
    text = (backup / MANIFEST).read_text()
    (backup / MANIFEST).write_text(text[: len(text) // 2])
    with pytest.raises(BackupError, match="damaged"):
        await restored(backup, empty_database, tmp_path)


async def test_a_database_that_is_not_empty_is_refused(
    backup: Path, empty_database: str, tmp_path: Path
) -> None:
    await execute(empty_database, "CREATE TABLE somebody_elses (x int)")
    with pytest.raises(BackupError, match="somebody_elses"):
        await restored(backup, empty_database, tmp_path)
    assert await tables_of(empty_database) == ["somebody_elses"]


async def test_a_database_of_something_else_is_not_backed_up(
    empty_database: str, tmp_path: Path
) -> None:
    with pytest.raises(BackupError, match="holds no installation"):
        await backed_up(empty_database, tmp_path)
    assert not list((tmp_path / "backup").iterdir())


async def test_a_restore_that_fails_leaves_the_database_empty(
    backup: Path, empty_database: str, tmp_path: Path
) -> None:
    """The dump names a table that is there already, in a schema that counts as empty."""
    await execute(empty_database, "CREATE TYPE workspace_status AS ENUM ('x')")
    with pytest.raises(BackupError, match="psql failed"):
        await restored(backup, empty_database, tmp_path)
    assert await tables_of(empty_database) == []


async def test_a_data_directory_in_use_or_not_empty_is_refused(backup: Path, place: Path) -> None:
    target = settings("", place)
    with (
        EmbeddedPostgres(place, {"fsync": "off"}),
        pytest.raises(DataDirectoryInUseError, match="in use"),
    ):
        await asyncio.to_thread(restore, target, backup)
    with pytest.raises(BackupError, match="not empty: it has postgres"):
        await asyncio.to_thread(restore, target, backup)


async def test_what_a_killed_restore_left_is_cleared(backup: Path, place: Path) -> None:
    (place / "restoring-killed" / "postgres").mkdir(parents=True)
    await asyncio.to_thread(restore, settings("", place), backup)
    assert {path.name for path in place.iterdir()} == {"postgres", "postgres.lock"}


async def test_there_is_no_backup_of_no_installation(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="holds no installation"):
        await asyncio.to_thread(back_up, settings("", tmp_path / "none"), tmp_path / "backup")


# Secrets.


@pytest.mark.parametrize(
    ("dsn", "shown", "password"),
    [
        ("postgresql://u:p%40ss@h:1/d?a=b", "postgresql://u@h:1/d?a=b", "p@ss"),
        ("postgres://u@h/d", "postgres://u@h/d", None),
        ("postgresql://u@h/d?password=x%26y&sslmode=require", "postgresql://u@h/d?sslmode=require",
         "x&y"),
        ("postgresql://u:@h1:1,h2:2/d", "postgresql://u@h1:1,h2:2/d", ""),
        ("postgresql://u@/d?host=%2Ftmp%2Fx", "postgresql://u@/d?host=%2Ftmp%2Fx", None),
    ],
)  # fmt: skip
def test_no_password_stands_on_a_command_line(dsn: str, shown: str, password: str | None) -> None:
    assert without_password(dsn) == (shown, password)


async def test_a_refusal_of_the_database_shows_no_row_and_no_password(
    pool: Pool, database_url: str, empty_database: str, tmp_path: Path
) -> None:
    [agent] = await hire(pool, 1)
    await append(database_url, message(agent, "a secret text"))
    directory = await backed_up(database_url, tmp_path)
    # COPY fails in the middle of the rows.
    await execute(
        empty_database,
        """CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
               ALTER TABLE public.activity_logs ADD CHECK (request_body IS NULL);
           EXCEPTION WHEN undefined_table THEN NULL; END $$;
           CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
           EXECUTE FUNCTION refuse();""",
    )
    with pytest.raises(BackupError, match="psql failed") as caught:
        await restored(directory, empty_database, tmp_path)
    assert "activity_logs" in str(caught.value)
    assert "secret" not in str(caught.value)
