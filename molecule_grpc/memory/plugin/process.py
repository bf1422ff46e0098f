"""The built-in store as a server of its own: `molecule-grpc memory serve-plugin`."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from molecule_grpc.db.migrate import migrate
from molecule_grpc.db.pool import connect_pool
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.memory.contract.postgres import PostgresStore
from molecule_grpc.memory.plugin.server import contract_application
from molecule_grpc.memory.plugin.store import tenancy
from molecule_grpc.memory.upkeep import Upkeep
from molecule_grpc.server.tasks import BackgroundTask

log = structlog.get_logger(__name__)

_CONNECTIONS: Final = 25
_IDLE_CONNECTIONS: Final = 5
_START_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 10.0
_SWEEP_SECONDS: Final = 300.0
_SWEEP_TIMEOUT: Final = 600.0


class ServingError(Exception):
    """The server cannot start with these arguments; the message is for the operator."""


async def serve(dsn: str, listen: str, migrations: Path | None) -> None:
    """Serve until SIGINT or SIGTERM; requests under way have 10 s to end.

    Args:
        dsn: a database that holds nothing else of the platform.
        listen: HOST:PORT. There is no authentication: anybody who reaches it reads everything.
        migrations: applied first; None to apply none.

    Raises:
        ServingError: the address cannot be used, or the database is a platform's.
        asyncpg.PostgresError: the database refuses.
        OSError: nothing answers there.
    """
    host, port = _address(listen)
    if migrations is not None:
        await migrate(dsn, migrations)
    async with asyncio.timeout(_START_SECONDS):
        pool = await connect_pool(
            dsn,
            min_size=_IDLE_CONNECTIONS,
            max_size=_CONNECTIONS,
            application_name="molecule-grpc-memory-plugin",
        )
    try:
        if await tenancy.has_workspaces(pool):
            raise ServingError(
                "this database has workspaces, so it is a platform's own: the plugin needs another"
            )
        store = PostgresStore(pool, DEFAULT_ORGANIZATION)
        runner = web.AppRunner(
            contract_application(store), access_log=None, shutdown_timeout=_STOP_SECONDS
        )
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        if not _is_loopback(host):
            log.warning(
                "the memory plugin has no authentication and is open to the network", host=host
            )
        log.info("the memory plugin serves", address=f"{host}:{port}")
        sweep = BackgroundTask("memory-sweep", _SWEEP_SECONDS, Upkeep(pool).sweep, _SWEEP_TIMEOUT)
        async with asyncio.TaskGroup() as group:
            sweeping = group.create_task(sweep.run())
            await _stopped()
            await runner.cleanup()
            sweeping.cancel()
    finally:
        await pool.close()


async def _stopped() -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    await stopping.wait()


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ServingError(f"{listen!r} is no HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
