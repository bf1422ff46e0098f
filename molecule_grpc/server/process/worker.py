"""One worker process: the gRPC server on a Unix socket, and its end in good order."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import uuid
from pathlib import Path

import structlog
import uvloop

from molecule_grpc.app import application
from molecule_grpc.db.start import wait_for_database
from molecule_grpc.kernel import open_files
from molecule_grpc.server.hosts.grpc_server import GrpcServer
from molecule_grpc.server.process.beat import beat
from molecule_grpc.server.process.garbage_collection import freeze_startup_objects
from molecule_grpc.server.process.logs import configure
from molecule_grpc.settings.settings import Settings
from molecule_grpc.settings.values import SettingsError

log = structlog.get_logger("molecule_grpc.worker")

# The edge asks for health each 0.5 s, and sends no new call after one NOT_SERVING.
_NOTICE_SECONDS = 2.0


async def serve(
    settings: Settings, dsn: str, address: str, *, behind_edge: bool, beat_file: Path | None = None
) -> None:
    """Serve on `address` until SIGTERM or SIGINT, then drain.

    Drain: health says NOT_SERVING, streams are asked to reconnect, calls in flight get
    `settings.process.drain_seconds` to finish, queued writes are flushed.

    Args:
        address: `unix:PATH` or `HOST:PORT`.
        behind_edge: whether an edge must be given time to notice that health has changed.
        beat_file: touched all the time, for a parent that looks whether this process is frozen.
    """
    open_files.raise_limit()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    await wait_for_database(dsn)
    async with application(settings, dsn, name) as app:
        server = GrpcServer(
            address,
            app.methods,
            app.pipeline,
            app.unread,
            healthy=app.healthy,
            write_seconds=settings.process.stream_write_seconds,
        )
        await server.start()
        freeze_startup_objects()
        log.info("worker ready", address=address, worker=name)
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(beat(beat_file)) if beat_file else None
            running = group.create_task(server.run())
            await stopping.wait()
            running.cancel()
            await server.leave()
            await asyncio.sleep(_NOTICE_SECONDS if behind_edge else 0)
            app.streams.drain()
            await server.stop(settings.process.drain_seconds)
            if beating:
                beating.cancel()
    log.info("worker stopped", worker=name)


def main() -> None:
    """Entry of `python -m molecule_grpc.server.process.worker`.

    With `--standby` alone, the arguments come later as one line of JSON on standard input: by then
    this process has loaded the program. It ends with that input.
    """
    words = sys.argv[1:]
    if words == ["--standby"]:
        # Else each of the start's two full collections walks over the whole program.
        freeze_startup_objects()
        told = sys.stdin.readline()
        if not told:
            return
        words = json.loads(told)
    parser = argparse.ArgumentParser(description="One worker of Molecule gRPC.")
    parser.add_argument("--address", required=True, help="unix:PATH or HOST:PORT")
    parser.add_argument("--dsn-file", type=Path, help="file with the database's URL")
    parser.add_argument("--beat-file", type=Path, help="file to touch as a sign of life")
    parser.add_argument("--behind-edge", action="store_true")
    arguments = parser.parse_args(words)
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
    uvloop.run(
        serve(
            settings,
            dsn,
            arguments.address,
            behind_edge=arguments.behind_edge,
            beat_file=arguments.beat_file,
        )
    )


if __name__ == "__main__":
    main()
