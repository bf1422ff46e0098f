"""A worker inside Envoy's process: the ASGI application that Envoy loads, and its good end.

Envoy runs the application's event loop on a thread of its own, waits for its start before it
listens, and for its end before it exits. The environment names a directory that the fleet has made:
there the worker waits at a FIFO until it is to serve, touches a file as a sign of life, and listens
on a socket for the words with which the fleet ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import structlog

from molecule_grpc.app import App, application
from molecule_grpc.db.start import wait_for_database
from molecule_grpc.kernel import open_files
from molecule_grpc.server.edge.routes import ADMIN_SERVICE, HEALTH_RPC
from molecule_grpc.server.hosts.envoy.asgi import AsgiHost
from molecule_grpc.server.hosts.envoy.exchange import Event, Receive, Send
from molecule_grpc.server.hosts.envoy.native import native_rpcs
from molecule_grpc.server.hosts.envoy.pages import healthz, metrics, not_found
from molecule_grpc.server.hosts.grpc_server import GrpcServer
from molecule_grpc.server.hosts.health import Health
from molecule_grpc.server.methods import Method
from molecule_grpc.server.process.beat import beat
from molecule_grpc.server.process.garbage_collection import freeze_startup_objects
from molecule_grpc.server.process.hosted_names import (
    BEAT,
    CONTROL,
    DIRECTORY,
    DSN,
    METRICS_PORT,
    OPEN,
    OPERATOR,
    Word,
)
from molecule_grpc.server.process.last_connections import refuse_first_packets
from molecule_grpc.server.process.logs import configure
from molecule_grpc.settings.settings import Settings

log = structlog.get_logger("molecule_grpc.worker")


class HostedWorker:
    """The ASGI application: called once with scope `lifespan`, then once for each HTTP request."""

    # Tells Envoy's module that ASGI 3 is spoken, which it cannot see of a plain function.
    _asgi_single_callable = True

    def __init__(self) -> None:
        self._host: AsgiHost | None = None

    def __call__(self, scope: Event, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request, or live as long as Envoy does."""
        if scope["type"] == "lifespan":
            return self._live(receive, send)
        assert self._host is not None
        return self._host(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        # A spare process waits here, the program loaded, until it is to take another one's place.
        # Else each of the start's two full collections walks over the whole program.
        freeze_startup_objects()
        await asyncio.to_thread(_read_line, Path(os.environ[DIRECTORY]) / OPEN)
        try:
            async with self._served():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            log.exception("the worker ends")
            message = {"type": "lifespan.startup.failed", "message": type(error).__name__}
            with contextlib.suppress(RuntimeError):  # it had started
                await send(message)
            raise
        log.info("worker stopped", address=os.environ[DIRECTORY])
        await send({"type": "lifespan.shutdown.complete"})

    @contextlib.asynccontextmanager
    async def _served(self) -> AsyncIterator[None]:
        settings = Settings.from_env()
        configure(settings.process.log_level)
        open_files.raise_limit()
        directory = Path(os.environ[DIRECTORY])
        dsn = (directory.parent / DSN).read_text().strip()
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        await wait_for_database(dsn)
        async with application(settings, dsn, name) as app, asyncio.TaskGroup() as group:
            health = Health(sorted({method.service for method in app.methods}), app.healthy)
            await health.look()
            self._host = host = _host(settings, app, health, directory.parent)
            control = await asyncio.start_unix_server(
                _obeys(settings, app, health, host), directory / CONTROL
            )
            operator = await _operators_server(settings, app, directory)
            freeze_startup_objects()
            work = (health.run(), host.open_calls.run(), beat(directory / BEAT))
            running = [group.create_task(each) for each in work]
            if operator:
                running.append(group.create_task(operator.keep_health()))
            log.info("worker ready", address=str(directory), worker=name)
            yield
            control.close()
            if operator:
                await operator.stop(0)
            for task in running:
                task.cancel()


def _host(settings: Settings, app: App, health: Health, fleet: Path) -> AsgiHost:
    edge = settings.edge
    shown = bool(edge.metrics_token or edge.public_metrics)
    token = "" if edge.public_metrics else edge.metrics_token
    port = int((fleet / METRICS_PORT).read_text())
    return AsgiHost(
        _public(app.methods, split=bool(edge.operator_port)),
        app.pipeline,
        app.unread,
        native=native_rpcs(health),
        pages={
            "/healthz": healthz(health),
            "/metrics": metrics(port, token) if shown else not_found,
        },
        write_seconds=settings.process.stream_write_seconds,
        call_seconds=settings.process.call_seconds,
    )


async def _operators_server(settings: Settings, app: App, directory: Path) -> GrpcServer | None:
    """Serves the operator's port, whose listener has a router: one application, one event loop."""
    if not settings.edge.operator_port:
        return None
    server = GrpcServer(
        f"unix:{directory / OPERATOR}",
        app.methods,
        app.pipeline,
        app.unread,
        healthy=app.healthy,
        write_seconds=settings.process.stream_write_seconds,
    )
    await server.start()
    return server


def _public(methods: list[Method], *, split: bool) -> list[Method]:
    """What the public port serves: with a port for operators, only the health of AdminService."""
    if not split:
        return methods
    return [each for each in methods if each.service != ADMIN_SERVICE or each.path == HEALTH_RPC]


def _read_line(fifo: Path) -> None:
    """Wait until somebody has written a line."""
    with fifo.open() as opened:
        opened.readline()


def _obeys(settings: Settings, app: App, health: Health, host: AsgiHost) -> Any:
    async def drain() -> None:
        app.streams.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.process.drain_seconds):
                await host.open_calls.ended()
        host.open_calls.cancel()

    async def close() -> None:
        refuse_first_packets({settings.edge.port, settings.edge.operator_port})

    does = {Word.LEAVE: health.drain, Word.CLOSE: close, Word.DRAIN: drain}

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what the line says; the end of the connection says that it is done."""
        with contextlib.closing(writer):
            await does[Word((await reader.readline()).decode().strip())]()

    return obey


app = HostedWorker()
