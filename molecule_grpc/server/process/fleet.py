"""N workers and the edge in front of them, as one thing to start and stop."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import tempfile
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Self

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from molecule_grpc.kernel import open_files
from molecule_grpc.server.edge.config import EdgeConfig
from molecule_grpc.server.edge.tls import TlsFiles
from molecule_grpc.server.hosts.envoy import Edge
from molecule_grpc.server.process.certificates import EXPIRY, CertificateKeeper
from molecule_grpc.server.process.child import keep
from molecule_grpc.server.process.worker_child import Spare, WorkerChild
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.settings.settings import Settings

log = structlog.get_logger(__name__)

_READY_SECONDS = 60.0
_READY_POLL_SECONDS = 0.05
_LOOK_SECONDS = 1.0  # Between two looks at the certificate's files.
_SPARE_SECONDS = 1.0
_MAX_CONNECTIONS = 100_000
# Files that the edge has open beside the connections of clients.
_FILES_OF_THE_EDGE = 512
# On top of the drain: 2 s of notice to the edge, and the flush of queued writes.
_STOP_MARGIN_SECONDS = 10.0
# The event engine's listener costs a quarter of the throughput of a Python server.
_GRPC_EXPERIMENTS = "-event_engine_listener"


class Fleet:
    """Runs workers on Unix sockets and the edge before them, and restarts what dies or freezes."""

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
        self._spare = Spare(self._environment) if settings.process.spare_worker else None
        self._workers = [
            WorkerChild(index, self._directory, self._environment, self._spare)
            for index in range(settings.process.workers)
        ]
        self._edge: Edge | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._certificates = None
        if files := TlsFiles.of(settings.edge):
            self._certificates = CertificateKeeper(files, self._tls_directory)

    async def __aenter__(self) -> Self:
        open_files.raise_limit()  # For the edge, which inherits the limit.
        try:
            for index, worker in enumerate(self._workers):
                await worker.start()
                self._run(keep(f"worker {index}", worker))
            if self._certificates is not None:
                self._certificates.install()
                looking = BackgroundTask("certificates", _LOOK_SECONDS, self._certificates.look)
                self._run(looking.run())
            self._edge = edge = Edge(self._edge_config(), self._directory)
            await edge.start()
            await edge.wait_ready()
            self._run(keep("edge", edge))
            await self._answering(edge)
            if self._spare:
                self._run(self._keep_spare(self._spare))
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

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run until the fleet stops."""
        self._tasks.append(asyncio.create_task(work))

    async def _keep_spare(self, spare: Spare) -> None:
        """Load a spare process whenever there is none, but not while a worker starts."""
        while True:
            if not spare.there and all(worker.ready for worker in self._workers):
                try:
                    await spare.start()
                except OSError as error:
                    log.warning("no spare worker", error=str(error))
            await asyncio.sleep(_SPARE_SECONDS)

    def _edge_config(self) -> EdgeConfig:
        settings = self._settings
        return EdgeConfig(
            host=settings.edge.host,
            port=settings.edge.port,
            tls_directory=self._tls_directory if settings.edge.tls else None,
            client_certificates=settings.edge.tls_client_ca_file is not None,
            operator_port=settings.edge.operator_port or None,
            worker_sockets=[worker.socket for worker in self._workers],
            metrics_port=self._serve_metrics(),
            metrics_token=settings.edge.metrics_token,
            public_metrics=settings.edge.public_metrics,
            cors_origins=settings.edge.cors_origins,
            rate_limit_per_minute=settings.edge.rate_limit_per_minute,
            # There a call without a token is the operator's.
            stranger_calls_per_minute=0
            if settings.deployment.development
            else settings.edge.stranger_calls_per_minute,
            memory_bytes=settings.edge.memory_bytes,
            max_connections=min(_MAX_CONNECTIONS, open_files.limit() - _FILES_OF_THE_EDGE),
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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        wait_limit = self._settings.process.drain_seconds + _STOP_MARGIN_SECONDS
        await asyncio.gather(*(worker.stop(wait_limit) for worker in self._workers))
        if self._spare is not None:
            await self._spare.stop()
        if self._edge is not None:
            await self._edge.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


def worker_environment() -> dict[str, str]:
    """The environment that a worker inherits: this process's own."""
    return dict(os.environ)
