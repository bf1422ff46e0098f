"""N workers and the edge in front of them, as one thing to start and stop."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Self

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from molecule_grpc.kernel import open_files
from molecule_grpc.server.children import spawn, stop
from molecule_grpc.server.edge.config import EdgeConfig
from molecule_grpc.server.edge.tls import TlsFiles
from molecule_grpc.server.hosts.envoy import Edge
from molecule_grpc.server.process.certificates import EXPIRY, CertificateKeeper
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.settings.settings import Settings

log = structlog.get_logger(__name__)

# Awaits the end of a process, started by the call or before; returns the exit code.
Life = Callable[[], Awaitable[int]]

_READY_SECONDS = 60.0
_READY_POLL_SECONDS = 0.05
_LOOK_SECONDS = 1.0  # Between two looks at the certificate's files.
_RESTART_SECONDS = 1.0
_MAX_RESTART_SECONDS = 30.0
# On top of the drain: 2 s of notice to the edge, and the flush of queued writes.
_STOP_MARGIN_SECONDS = 10.0
# The event engine's listener costs a quarter of the throughput of a Python server.
_GRPC_EXPERIMENTS = "-event_engine_listener"


class Fleet:
    """Runs workers on Unix sockets and the edge before them, and restarts what dies."""

    def __init__(self, settings: Settings, dsn: str, environment: Mapping[str, str]) -> None:
        self._settings = settings
        # Private to this user, and short: a Unix socket's path has at most 107 bytes.
        self._directory = Path(tempfile.mkdtemp(prefix="molecule-"))
        (self._directory / "dsn").touch(mode=0o600)
        (self._directory / "dsn").write_text(dsn)
        (self._directory / "metrics").mkdir()
        self._environment = {
            **environment,
            "GRPC_EXPERIMENTS": environment.get("GRPC_EXPERIMENTS", _GRPC_EXPERIMENTS),
            "PROMETHEUS_MULTIPROC_DIR": str(self._directory / "metrics"),
        }
        self._keepers: list[asyncio.Task[None]] = []
        self._workers: dict[int, asyncio.subprocess.Process] = {}
        self._edge: Edge | None = None
        self._certificates = None
        if files := TlsFiles.of(settings.edge):
            self._certificates = CertificateKeeper(files, self._tls_directory)

    async def __aenter__(self) -> Self:
        open_files.raise_limit()  # For the edge, which inherits the limit.
        try:
            for index in range(self._settings.process.workers):
                work = partial(self._work, index)
                self._keep(f"worker {index}", work, work)
            if self._certificates is not None:
                self._certificates.install()
                looking = BackgroundTask("certificates", _LOOK_SECONDS, self._certificates.look)
                self._keepers.append(asyncio.create_task(looking.run()))
            self._edge = edge = Edge(self._edge_config(), self._directory)
            await edge.start()
            await edge.wait_ready()
            self._keep("edge", edge.wait, partial(_reopen, edge))
            await self._answering(edge)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _answering(self, edge: Edge) -> None:
        """Wait until the port accepts clients and a worker is healthy, so reaches its database.

        No call is made: where clients need a certificate, this process has none.

        Raises:
            TimeoutError: that took 60 s; the log of workers and edge says why.
        """
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                if await edge.has_healthy_worker() and await self._accepts():
                    return
                await asyncio.sleep(_READY_POLL_SECONDS)

    async def _accepts(self) -> bool:
        """Whether the public port takes a connection, and shows a certificate where it has one."""
        settings = self._settings.edge
        context = None
        if settings.tls:
            context = ssl.create_default_context()
            # The question is whether the edge has a certificate, not whether others trust it.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            _, writer = await asyncio.open_connection(
                settings.local_host, settings.port, ssl=context
            )
        except OSError:  # the edge may just start again
            return False
        writer.close()
        return True

    @property
    def _tls_directory(self) -> Path:
        return self._directory / "tls"

    def socket(self, index: int) -> Path:
        """Where a worker listens."""
        return self._directory / f"worker-{index}.sock"

    def _keep(self, name: str, first: Life, again: Life) -> None:
        """Start a process again whenever it ends, until the fleet stops."""
        self._keepers.append(asyncio.create_task(_kept(name, first, again)))

    async def _work(self, index: int) -> int:
        """Run one worker. Returns the exit code."""
        self.socket(index).unlink(missing_ok=True)
        process = await spawn(self._command(index), env=self._environment)
        self._workers[index] = process
        code = await process.wait()
        # Gauges of open streams must not count those of a worker that has ended.
        mark_process_dead(process.pid, self._environment["PROMETHEUS_MULTIPROC_DIR"])  # type: ignore[no-untyped-call]
        return code

    def _command(self, index: int) -> list[str | Path]:
        return [
            sys.executable,
            "-m",
            "molecule_grpc.server.process.worker",
            f"--address=unix:{self.socket(index)}",
            f"--dsn-file={self._directory / 'dsn'}",
            "--behind-edge",
        ]

    def _edge_config(self) -> EdgeConfig:
        settings = self._settings
        return EdgeConfig(
            host=settings.edge.host,
            port=settings.edge.port,
            tls_directory=self._tls_directory if settings.edge.tls else None,
            client_certificates=settings.edge.tls_client_ca_file is not None,
            operator_port=settings.edge.operator_port or None,
            worker_sockets=[self.socket(index) for index in range(settings.process.workers)],
            metrics_port=self._serve_metrics(),
            metrics_token=settings.edge.metrics_token,
            public_metrics=settings.edge.public_metrics,
            cors_origins=settings.edge.cors_origins,
            rate_limit_per_minute=settings.edge.rate_limit_per_minute,
        )

    def _serve_metrics(self) -> int:
        """Serve the sum of all workers' metrics on a loopback port of the kernel's choice."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._directory / "metrics"))  # type: ignore[no-untyped-call]
        registry.register(EXPIRY)
        server, _ = start_http_server(0, addr="127.0.0.1", registry=registry)
        return int(server.server_port)

    async def _end(self) -> None:
        """Drain the workers behind the edge, then take the edge down."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        wait_limit = self._settings.process.drain_seconds + _STOP_MARGIN_SECONDS
        await asyncio.gather(
            *(stop(process, wait_limit=wait_limit) for process in self._workers.values())
        )
        if self._edge is not None:
            await self._edge.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


async def _kept(name: str, live: Life, again: Life) -> None:
    loop = asyncio.get_running_loop()
    pause = _RESTART_SECONDS
    while True:
        started = loop.time()
        try:
            end: object = await live()
        except OSError as error:  # not even started
            end = error
        if loop.time() - started > _MAX_RESTART_SECONDS:
            pause = _RESTART_SECONDS
        log.error("a process died, restarting", process=name, end=str(end), pause=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _MAX_RESTART_SECONDS)
        live = again


async def _reopen(edge: Edge) -> int:
    """Start the edge again and await its end. Returns the exit code."""
    await edge.start()
    return await edge.wait()


def worker_environment() -> dict[str, str]:
    """The environment that a worker inherits: this process's own."""
    return dict(os.environ)
