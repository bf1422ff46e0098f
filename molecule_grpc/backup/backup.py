"""Takes a backup of an installation, whether its server runs or not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import asyncpg

from molecule_grpc.backup import programs
from molecule_grpc.backup.layout import ADMIN_TOKEN, DATABASE, OBJECTS
from molecule_grpc.backup.manifest import (
    BackupError,
    Manifest,
    StoredFile,
    files_below,
    sync_directory,
)
from molecule_grpc.backup.objects import StoredObject, copy_out
from molecule_grpc.client.connection import version
from molecule_grpc.db.embedded.failures import DataDirectoryInUseError
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.migrate import load, schema_checksum, schema_version
from molecule_grpc.db.pool import connect
from molecule_grpc.resources import migrations_dir
from molecule_grpc.settings.settings import Settings


def back_up(settings: Settings, directory: Path) -> Manifest:
    """Write a backup into a directory that does not exist yet, or is empty.

    The backup shows one moment, shortly after the call: everything that was acknowledged before
    the call is in it. Calls that are served meanwhile do not wait. A backup that fails leaves the
    directory empty; one that is killed leaves it without a manifest, and cannot be restored.

    Raises:
        BackupError: the directory is not empty, there is no installation, or a program failed.
        MigrationError: the installation's schema is newer than this program.
    """
    if directory.exists() and any(directory.iterdir()):
        raise BackupError(f"{directory} is not empty: a backup needs a directory of its own")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with _database(settings) as dsn:
            manifest = asyncio.run(_back_up(settings, dsn, directory))
        manifest.write(directory)
    except BaseException:
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
    return manifest


@contextlib.contextmanager
def _database(settings: Settings) -> Iterator[str]:
    """The installation's database: an embedded one is started unless `up` runs it."""
    if settings.process.database_url:
        yield settings.process.database_url
        return
    data_dir = settings.process.data_dir
    if not (data_dir / "postgres").exists():
        raise BackupError(f"{data_dir} holds no installation; set MOLECULE_DATA_DIR")
    with contextlib.ExitStack() as stack:
        server = EmbeddedPostgres(data_dir)
        with contextlib.suppress(DataDirectoryInUseError):
            stack.enter_context(server)
        yield server.dsn


async def _back_up(settings: Settings, dsn: str, directory: Path) -> Manifest:
    started_at = datetime.now(UTC)
    contents = await _dump(dsn, directory / DATABASE)
    absent: list[str] = []
    if contents.objects:
        _require_bucket(settings)
        absent = await asyncio.to_thread(
            copy_out, settings.upload, contents.objects, directory / OBJECTS
        )
    token = settings.process.data_dir / ADMIN_TOKEN
    if token.exists():
        # Closed before it holds anything: others may read the directory, if it was there before.
        (directory / ADMIN_TOKEN).touch(mode=0o600)
        shutil.copyfile(token, directory / ADMIN_TOKEN)
    return Manifest(
        server_version=version(),
        postgres_version=contents.postgres_version,
        schema_version=contents.schema_version,
        schema_checksum=schema_checksum(load(migrations_dir())[: contents.schema_version]),
        database_schema=contents.database_schema,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        absent_files=absent,
        files=await asyncio.to_thread(_sums, directory),
    )


class _Contents(NamedTuple):
    postgres_version: str
    schema_version: int
    database_schema: str
    objects: list[StoredObject]


async def _dump(dsn: str, folder: Path) -> _Contents:
    """Dump the database, and list what its snapshot says to be in the object store."""
    connection = await connect(dsn, application_name="molecule-grpc-backup")
    try:
        # The transaction is open, and idle, as long as pg_dump uses its snapshot.
        await connection.execute(
            "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
        )
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            contents = await _contents(connection)
            await programs.dump(dsn, folder, snapshot=snapshot, schema=contents.database_schema)
    finally:
        await connection.close()
    return contents


async def _contents(connection: asyncpg.Connection[asyncpg.Record]) -> _Contents:
    applied = await schema_version(connection, load(migrations_dir()))
    if not applied:
        raise BackupError("the database holds no installation: see DATABASE_URL")
    rows = await connection.fetch(
        "SELECT file_id::text, encode(sha256, 'hex') FROM pending_uploads WHERE storage = 's3'"
    )
    return _Contents(
        postgres_version=await connection.fetchval("SHOW server_version"),
        schema_version=applied,
        database_schema=await connection.fetchval(
            "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.oid = 'schema_migrations'::regclass"
        ),
        objects=[StoredObject(*row) for row in rows],
    )


def _require_bucket(settings: Settings) -> None:
    if not settings.upload.s3_bucket:
        raise BackupError("uploads are kept in an object store: set MOLECULE_S3_BUCKET")


def _sums(directory: Path) -> dict[str, StoredFile]:
    """Make every file durable, and sum it up."""
    sums = {}
    for name in files_below(directory):
        with (directory / name).open("rb") as file:
            os.fsync(file.fileno())
        sums[name] = StoredFile.of(directory / name)
    for folder in {(directory / name).parent for name in sums}:
        sync_directory(folder)
    return sums
