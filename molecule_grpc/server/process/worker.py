"""One worker process: the gRPC server on a Unix socket, and its end in good order."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import uuid
from pathlib import Path

import grpc
import structlog
import uvloop

from molecule_grpc.app import App, application
from molecule_grpc.server.hosts.grpc_aio import OPTIONS, add_methods
from molecule_grpc.server.process.garbage_collection import settle_memory
from molecule_grpc.server.process.health import Health
from molecule_grpc.server.process.logs import configure
from molecule_grpc.server.process.scheduling import poller_affinity
from molecule_grpc.settings.settings import Settings
from molecule_grpc.settings.values import SettingsError

log = structlog.get_logger("molecule_grpc.worker")

# The edge asks for health every second: after two of them it sends nothing new here.
_NOTICE_SECONDS = 2.0


async def serve(settings: Settings, dsn: str, address: str, *, behind_edge: bool) -> None:
    """Serve on `address` until SIGTERM or SIGINT, then drain.

    Drain: health says NOT_SERVING, streams are asked to reconnect, calls in flight get
    `settings.process.drain_seconds` to finish, queued writes are flushed.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    async with application(settings, dsn, name) as app:
        server = grpc.aio.server(options=OPTIONS)
        add_methods(
            server, app.methods, app.pipeline, write_seconds=settings.process.stream_write_seconds
        )
        health = Health(sorted({method.service for method in app.methods}), app.healthy)
        health.add_to(server)
        server.add_insecure_port(address)
        await health.look()
        await server.start()
        settle_memory()
        log.info("worker ready", address=address, worker=name)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(health.run())
            following = group.create_task(poller_affinity().run())
            await stopping.wait()
            watching.cancel()
            following.cancel()
        await _drain(server, health, app, settings, notice=_NOTICE_SECONDS if behind_edge else 0)
    log.info("worker stopped", worker=name)


async def _drain(
    server: grpc.aio.Server, health: Health, app: App, settings: Settings, *, notice: float
) -> None:
    await health.drain()
    await asyncio.sleep(notice)
    app.sessions.drain()
    await server.stop(settings.process.drain_seconds)


def main() -> None:
    """Entry of `python -m molecule_grpc.server.process.worker`."""
    parser = argparse.ArgumentParser(description="One worker of Molecule gRPC.")
    parser.add_argument("--address", required=True, help="unix:PATH or HOST:PORT")
    parser.add_argument("--dsn-file", type=Path, help="file with the database's URL")
    parser.add_argument("--behind-edge", action="store_true")
    arguments = parser.parse_args()
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        sys.exit(f"error: {error}")
    configure(settings.process.log_level)
    if not arguments.behind_edge:  # else whoever started the edge has said so
        for warning in settings.warnings:
            log.warning("setting", problem=warning)
    dsn = (
        arguments.dsn_file.read_text().strip()
        if arguments.dsn_file
        else settings.process.database_url
    )
    uvloop.run(serve(settings, dsn, arguments.address, behind_edge=arguments.behind_edge))


if __name__ == "__main__":
    main()
