"""Applies the numbered migrations, forward at start and backward by hand."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog

from molecule_grpc.db.pool import connect
from molecule_grpc.db.postgres_version import require_supported_postgres

log = structlog.get_logger(__name__)

_LOCK = 0x6D6F6C65  # one migrator at a time, on all hosts
# Replaces the connection's limit of 35 s: a migration may rebuild a large table.
_STEP_SECONDS = 24 * 3600.0
_FILE = re.compile(r"^(\d{4})_([a-z0-9_]+)\.up\.sql$")
_HAS_TABLE = "SELECT to_regclass('schema_migrations')"
_TABLE = """
    CREATE TABLE schema_migrations (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""


class MigrationError(Exception):
    """The schema and the files of this version do not fit together."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered change and the way back."""

    version: int
    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        """Tells whether a migration was edited after it was applied."""
        return hashlib.sha256(self.up.encode()).hexdigest()


def load(directory: Path) -> list[Migration]:
    """The migrations in a directory, in order.

    Raises:
        MigrationError: a number is missing or doubled, or a `.down.sql` is missing.
    """
    found: list[Migration] = []
    for path in sorted(directory.glob("*.up.sql")):
        match = _FILE.match(path.name)
        down = path.with_name(path.name.replace(".up.sql", ".down.sql"))
        if match is None or not down.exists():
            raise MigrationError(f"{path.name} is not named NNNN_name.up.sql, or has no way back")
        found.append(Migration(int(match[1]), match[2], path.read_text(), down.read_text()))
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise MigrationError("migrations are not numbered 1, 2, 3 and so on")
    return found


async def migrate(dsn: str, directory: Path, *, to: int | None = None) -> list[str]:
    """Bring the schema to version `to` (default: the newest). Returns the steps taken.

    Safe to run from many processes at once. Each migration is one transaction and waits at most
    5 s for a lock, so that it never stands in the way of live traffic.

    Raises:
        MigrationError: the schema is newer than these files, a migration was edited, or there is no
            version `to`.
        UnsupportedPostgresError: the server is too old; nothing was changed.
    """
    migrations = load(directory)
    target = len(migrations) if to is None else to
    if not 0 <= target <= len(migrations):
        raise MigrationError(f"there is no version {target}; the newest is {len(migrations)}")
    connection = await connect(dsn, application_name="molecule-grpc-migrate")
    try:
        require_supported_postgres(connection.get_server_version())
        await connection.execute("SET statement_timeout = 0")
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK, timeout=_STEP_SECONDS)
        if await connection.fetchval(_HAS_TABLE) is None:  # a server's role may make no table
            await connection.execute(_TABLE)
        current = await _checked_version(connection, migrations)
        return [
            await _apply(connection, migration, up=migration.version > current)
            for migration in _steps(migrations, current, target)
        ]
    finally:
        await connection.close()


async def pending(dsn: str, directory: Path) -> int:
    """How many migrations are still to be applied. Changes nothing.

    Raises:
        MigrationError: as `migrate` does.
    """
    migrations = load(directory)
    connection = await connect(dsn, application_name="molecule-grpc-migrate")
    try:
        return len(migrations) - await schema_version(connection, migrations)
    finally:
        await connection.close()


async def schema_version(
    connection: asyncpg.Connection[asyncpg.Record], migrations: list[Migration]
) -> int:
    """How many migrations were applied; 0 in a database of something else.

    Raises:
        MigrationError: as `migrate` does.
    """
    if await connection.fetchval(_HAS_TABLE) is None:
        return 0
    return await _checked_version(connection, migrations)


def schema_checksum(migrations: Iterable[Migration]) -> str:
    """Tells whether two schemas were made by the same migrations."""
    return hashlib.sha256("".join(each.checksum for each in migrations).encode()).hexdigest()


def _steps(migrations: list[Migration], current: int, target: int) -> Iterable[Migration]:
    return migrations[current:target] if target >= current else reversed(migrations[target:current])


async def _checked_version(
    connection: asyncpg.Connection[asyncpg.Record], migrations: list[Migration]
) -> int:
    rows = await connection.fetch(
        "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
    )
    if len(rows) > len(migrations):
        raise MigrationError(
            f"the schema is at version {len(rows)}, newer than this program's {len(migrations)}"
        )
    for row, migration in zip(rows, migrations, strict=False):
        if (row["version"], row["checksum"]) != (migration.version, migration.checksum):
            raise MigrationError(f"migration {row['version']} ({row['name']}) was edited")
    return len(rows)


async def _apply(
    connection: asyncpg.Connection[asyncpg.Record], migration: Migration, *, up: bool
) -> str:
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '5s'")
        if up:
            await connection.execute(migration.up, timeout=_STEP_SECONDS)
            await connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.checksum,
            )
        else:
            await connection.execute(migration.down, timeout=_STEP_SECONDS)
            await connection.execute(
                "DELETE FROM schema_migrations WHERE version = $1", migration.version
            )
    step = f"{migration.version:04d}_{migration.name} {'up' if up else 'down'}"
    log.info("migrated", step=step)
    return step
