"""Migrations: the way back leads back, many migrators do no harm, a foreign schema is refused."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from molecule_grpc.db import pool
from molecule_grpc.db.migrate import MigrationError, load, migrate, pending
from tests.conftest import MIGRATIONS, with_database

# Everything that a migration can leave behind, one line each.
SCHEMA = """
    SELECT format('table %s %s', c.relname, c.reloptions)
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'S')
    UNION ALL
    SELECT format('column %s.%s %s %s %s', c.relname, a.attname,
                  format_type(a.atttypid, a.atttypmod), a.attnotnull,
                  pg_get_expr(d.adbin, d.adrelid))
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0
      AND NOT a.attisdropped
    UNION ALL
    SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT format('index %s', indexdef) FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT format('enum %s %s', t.typname, string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder))
    FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
    WHERE t.typnamespace = 'public'::regnamespace GROUP BY t.typname
    UNION ALL
    SELECT format('function %s', pg_get_functiondef(p.oid))
    FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prokind IN ('f', 'p')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    UNION ALL
    SELECT format('trigger %s', pg_get_triggerdef(t.oid))
    FROM pg_trigger t WHERE NOT t.tgisinternal
    UNION ALL
    SELECT format('extension %s', extname) FROM pg_extension
    ORDER BY 1
"""
TARGETS = range(len(load(MIGRATIONS)))


@pytest.fixture
async def empty(postgres: str) -> AsyncIterator[str]:
    """A database without a schema."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    await _run(postgres, f"CREATE DATABASE {name}")
    yield with_database(postgres, name)
    await _run(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of the migrations, to tamper with."""
    return Path(shutil.copytree(MIGRATIONS, tmp_path / "migrations"))


async def test_up_down_up_leads_to_the_same_schema(empty: str) -> None:
    await migrate(empty, MIGRATIONS)
    first = await _schema(empty)
    await migrate(empty, MIGRATIONS, to=0)
    await migrate(empty, MIGRATIONS)
    assert await _schema(empty) == first


@pytest.mark.parametrize("version", TARGETS)
async def test_the_way_back_leaves_what_was_there_before(empty: str, version: int) -> None:
    """Each version's down undoes exactly its up."""
    await migrate(empty, MIGRATIONS, to=version)
    before = await _schema(empty)
    await migrate(empty, MIGRATIONS)
    await migrate(empty, MIGRATIONS, to=version)
    assert await _schema(empty) == before


async def test_migrating_again_does_nothing(empty: str) -> None:
    done = await migrate(empty, MIGRATIONS)
    assert done == [f"{each.version:04d}_{each.name} up" for each in load(MIGRATIONS)]
    assert await migrate(empty, MIGRATIONS) == []


async def test_many_migrators_at_once_apply_everything_once(empty: str) -> None:
    done = await asyncio.gather(*(migrate(empty, MIGRATIONS) for _ in range(6)))
    assert [len(steps) for steps in sorted(done, key=len)] == [0] * 5 + [len(load(MIGRATIONS))]
    assert await pending(empty, MIGRATIONS) == 0


async def test_looking_for_pending_migrations_changes_nothing(empty: str) -> None:
    before = await _schema(empty)
    assert await pending(empty, MIGRATIONS) == len(load(MIGRATIONS))
    assert await _schema(empty) == before


async def test_an_edited_migration_is_refused(empty: str, files: Path) -> None:
    await migrate(empty, files)
    _edit_first(files)
    for look in (migrate, pending):
        with pytest.raises(MigrationError, match=r"migration 1 .* was edited"):
            await look(empty, files)


async def test_a_newer_schema_is_refused(empty: str, files: Path) -> None:
    version = _add(files, "SELECT 1")
    await migrate(empty, files)
    for look in (migrate, pending):
        with pytest.raises(MigrationError, match=f"at version {version}, newer"):
            await look(empty, MIGRATIONS)


async def test_a_migration_that_fails_leaves_nothing(empty: str, files: Path) -> None:
    await migrate(empty, files)
    before = await _schema(empty)
    _add(files, "CREATE TABLE half (id int); SELECT 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty, files)
    assert await _schema(empty) == before
    assert await pending(empty, files) == 1


@pytest.mark.parametrize("version", [-1, 1000])
async def test_an_unknown_version_is_refused(empty: str, version: int) -> None:
    await migrate(empty, MIGRATIONS)
    with pytest.raises(MigrationError, match=f"no version {version}"):
        await migrate(empty, MIGRATIONS, to=version)
    assert await pending(empty, MIGRATIONS) == 0


async def test_a_migration_may_take_longer_than_a_call(
    empty: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_SILENCE_TIMEOUT_SECONDS", 0.2)
    await migrate(empty, MIGRATIONS)
    _add(files, "SELECT pg_sleep(0.5)")
    await asyncio.gather(migrate(empty, files), migrate(empty, files))
    assert await pending(empty, files) == 0


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("0099_far.up.sql", "not numbered"),
        ("9_x.up.sql", "not named"),
        ("0003.up.sql", "not named"),
    ],
)
def test_files_out_of_order_are_refused(files: Path, name: str, complaint: str) -> None:
    (files / name).write_text("SELECT 1")
    (files / name.replace(".up.", ".down.")).write_text("SELECT 1")
    with pytest.raises(MigrationError, match=complaint):
        load(files)


def test_a_migration_without_a_way_back_is_refused(files: Path) -> None:
    next(files.glob("0001_*.down.sql")).unlink()
    with pytest.raises(MigrationError, match="no way back"):
        load(files)


async def test_way_back_leaves_a_key_that_two_organisations_used_to_the_newest(empty: str) -> None:
    """21: the old index knows no organisations, so one of the two gives its key up."""
    await migrate(empty, MIGRATIONS, to=21)
    await _run(
        empty,
        """
        INSERT INTO delegations (delegation_id, caller_id, callee_id, organization_id, task_preview,
                                 idempotency_key, created_at)
        SELECT 'd' || n, $1::uuid, gen_random_uuid(), gen_random_uuid(), '', 'k',
               now() - make_interval(hours => n)
        FROM generate_series(1, 2) n
        """.replace("$1", f"'{uuid.uuid4()}'"),
    )
    await migrate(empty, MIGRATIONS, to=20)
    connection = await asyncpg.connect(empty)
    try:
        rows = await connection.fetch("SELECT delegation_id, idempotency_key FROM delegations")
    finally:
        await connection.close()
    assert {tuple(row) for row in rows} == {("d1", "k"), ("d2", None)}


def _edit_first(files: Path) -> None:
    path = next(files.glob("0001_*.up.sql"))
    path.write_text(path.read_text() + "-- one more word")


def _add(files: Path, sql: str) -> int:
    version = len(load(files)) + 1
    (files / f"{version:04d}_more.up.sql").write_text(sql)
    (files / f"{version:04d}_more.down.sql").write_text("SELECT 1")
    return version


async def _schema(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch(SCHEMA)]
    finally:
        await connection.close()


async def _run(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
