"""Restores a backup into an empty data directory, or into an empty database."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from molecule_grpc.backup import new_future, programs
from molecule_grpc.backup.layout import ADMIN_TOKEN, DATABASE, OBJECTS
from molecule_grpc.backup.manifest import BackupError, Manifest
from molecule_grpc.backup.objects import put_back
from molecule_grpc.db.embedded.lock import LOCK_FILE, DirectoryLock
from molecule_grpc.db.embedded.processes import processes_in, send
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.migrate import load, migrate, schema_checksum
from molecule_grpc.db.pool import connect
from molecule_grpc.db.postgres_version import require_supported_postgres
from molecule_grpc.resources import migrations_dir
from molecule_grpc.settings.settings import Settings

_UNFINISHED = "restoring-"
_STOP_SECONDS = 600.0  # of the checkpoint that writes the loaded rows
_CHANGES_SECONDS = 3600.0
# While nobody else uses the server: tables that are filled by the transaction that made them need
# no log, and indexes are sorted in memory.
_LOADING = {"wal_level": "minimal", "max_wal_senders": "0", "maintenance_work_mem": "256MB"}

# What an empty database may hold: extensions, and nothing else outside of Postgres' own schemas.
_RELATIONS = """
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
      AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                        AND d.deptype = 'e')
    ORDER BY 1 LIMIT 1
"""


class Restored(NamedTuple):
    """What was restored, and the migrations that were applied afterwards."""

    manifest: Manifest
    migrated: list[str]


def restore(settings: Settings, directory: Path, migrations: Path | None = None) -> Restored:
    """Restore a backup to where the settings say that the installation is.

    A restore that fails or is killed leaves no installation behind, only files in the object store
    that no row names.

    Args:
        migrations: the schema of this program; by default its own.

    Raises:
        BackupError: the backup is not whole, damaged, or newer than this program; or its
            destination is not empty.
        EmbeddedPostgresError: the data directory is in use, or Postgres did not start.
        UnsupportedPostgresError: the database's server is too old.
    """
    migrations = migrations or migrations_dir()
    manifest = Manifest.read(directory)
    _require_known_schema(manifest, migrations)
    with _destination(settings) as dsn:
        manifest.verify(directory)
        _put_back_objects(settings, directory, manifest)
        migrated = asyncio.run(_fill(dsn, directory, manifest, migrations))
        _put_back_token(settings, directory)
    return Restored(manifest, migrated)


def _require_known_schema(manifest: Manifest, migrations: Path) -> None:
    known = load(migrations)
    if manifest.schema_version > len(known):
        raise BackupError(
            f"the backup has schema {manifest.schema_version}, newer than this program's "
            f"{len(known)}: restore it with version {manifest.server_version} or newer"
        )
    if manifest.schema_checksum != schema_checksum(known[: manifest.schema_version]):
        raise BackupError(
            f"the backup's schema {manifest.schema_version} is not the one that this program "
            f"knows by this number: restore it with version {manifest.server_version}"
        )


@contextlib.contextmanager
def _destination(settings: Settings) -> Iterator[str]:
    """An empty database that becomes the installation's when the body succeeds."""
    data_dir = settings.process.data_dir
    if settings.process.database_url:
        asyncio.run(_require_empty_database(settings.process.database_url))
        if (data_dir / ADMIN_TOKEN).exists():
            raise BackupError(f"{data_dir / ADMIN_TOKEN} exists, of another installation")
        yield settings.process.database_url
        return
    with DirectoryLock(data_dir):
        _require_empty_directory(data_dir)
        place = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=data_dir))
        try:
            with EmbeddedPostgres(place, _LOADING) as server:
                yield server.dsn
                server.stop(_STOP_SECONDS)
            (place / "postgres").rename(data_dir / "postgres")
        finally:
            shutil.rmtree(place)


async def _require_empty_database(dsn: str) -> None:
    connection = await connect(dsn, application_name="molecule-grpc-restore")
    try:
        require_supported_postgres(connection.get_server_version())
        found = await connection.fetchval(_RELATIONS)
    finally:
        await connection.close()
    if found:
        raise BackupError(f"the database is not empty: it has {found}; set DATABASE_URL to another")


def _require_empty_directory(data_dir: Path) -> None:
    """Raise unless there is nothing but what a restore that was killed has left, which goes."""
    for entry in data_dir.iterdir():
        if entry.name.startswith(_UNFINISHED):
            send(signal.SIGKILL, processes_in(entry / "postgres"))
            shutil.rmtree(entry)
        elif entry.name != LOCK_FILE:
            raise BackupError(
                f"{data_dir} is not empty: it has {entry.name}; set MOLECULE_DATA_DIR to another "
                "directory"
            )


def _put_back_objects(settings: Settings, directory: Path, manifest: Manifest) -> None:
    """Put the objects back before the rows that refer to them."""
    files = [directory / name for name in manifest.files if name.startswith(f"{OBJECTS}/")]
    if files and not settings.upload.s3_bucket:
        raise BackupError("the backup has files of an object store: set MOLECULE_S3_BUCKET")
    if files:
        put_back(settings.upload, files)


async def _fill(dsn: str, directory: Path, manifest: Manifest, migrations: Path) -> list[str]:
    changes = new_future.statements(manifest.database_schema)
    at_once = manifest.schema_version >= new_future.FIRST_SCHEMA
    await programs.load(
        dsn,
        directory / DATABASE,
        schema=manifest.database_schema,
        then=changes if at_once else "",
    )
    migrated = await migrate(dsn, migrations)
    if not at_once:
        await _execute(dsn, changes)
    return migrated


async def _execute(dsn: str, statements: str) -> None:
    connection = await connect(dsn, application_name="molecule-grpc-restore")
    try:
        async with connection.transaction():
            # Every event of the installation is renumbered: no limit of seconds.
            await connection.execute("SET LOCAL statement_timeout = 0")
            await connection.execute(statements, timeout=_CHANGES_SECONDS)
    finally:
        await connection.close()


def _put_back_token(settings: Settings, directory: Path) -> None:
    token = directory / ADMIN_TOKEN
    if token.exists():
        settings.process.data_dir.mkdir(parents=True, exist_ok=True)
        copy = settings.process.data_dir / ADMIN_TOKEN
        copy.touch(mode=0o600)
        shutil.copyfile(token, copy)
