"""All processes of an installation but its database, as one thing to start and stop."""

from __future__ import annotations

import asyncio
import os
import shutil
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
from molecule_grpc.server.process.certificates import EXPIRY, CertificateKeeper
from molecule_grpc.server.process.child import keep
from molecule_grpc.server.process.connections import ConnectionCounts, Edges
from molecule_grpc.server.process.embedder import VARIABLE, EmbedderProcess
from molecule_grpc.server.process.gateway import VARIABLE as GATEWAY
from molecule_grpc.server.process.gateway import GatewayProcess
from molecule_grpc.server.process.host_mode import HostMode, host_mode
from molecule_grpc.server.process.hosted_names import DSN, METRICS_PORT
from molecule_grpc.server.process.inside import InsideEnvoy
from molecule_grpc.server.process.layout import Layout
from molecule_grpc.server.process.separate import SeparateWorkers
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.settings.backends import DOCKER
from molecule_grpc.settings.settings import Settings

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0  # Between two looks at the certificate's files.
_MAX_CONNECTIONS = 100_000
# Files that an edge has open beside the connections of clients.
_FILES_OF_THE_EDGE = 512
# On top of the drain: 2 s of notice to the edge, and the flush of queued writes.
_STOP_MARGIN_SECONDS = 10.0
_EMBEDDER_STOP_SECONDS = 2.0
# Between the end of a stream whose client does not read, and the edge's reset of it.
_STALL_MARGIN_SECONDS = 10.0
# The event engine's listener costs a quarter of the throughput of a Python server.
_GRPC_EXPERIMENTS = "-event_engine_listener"


class Fleet:
    """Runs workers and edge, and restarts what dies or freezes.

    Raises:
        SettingsError: the host mode that was asked for cannot serve.
    """

    def __init__(self, settings: Settings, dsn: str, environment: Mapping[str, str]) -> None:
        self._settings = settings
        # Private to this user, and short: a Unix socket's path has at most 107 bytes.
        self._directory = Path(tempfile.mkdtemp(prefix="molecule-"))
        (self._directory / DSN).touch(mode=0o600)
        (self._directory / DSN).write_text(dsn)
        (self._directory / "metrics").mkdir()
        self._environment = {
            **environment,
            "GRPC_EXPERIMENTS": environment.get("GRPC_EXPERIMENTS", _GRPC_EXPERIMENTS),
            "PROMETHEUS_MULTIPROC_DIR": str(self._directory / "metrics"),
        }
        self._embedder: EmbedderProcess | None = None
        if settings.embedding.embedder != "none" and settings.embedding.socket is None:
            self._embedder = EmbedderProcess(self._directory, self._environment)
            self._environment[VARIABLE] = str(self._embedder.socket)
        self._gateway: GatewayProcess | None = None
        if DOCKER in (settings.backends.backend, *settings.backends.kept):
            self._gateway = GatewayProcess(self._directory, settings.edge)
            self._environment[GATEWAY] = str(self._gateway.directory)
        self._mode = host_mode(settings.process.host_mode)
        self._layout: Layout | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._certificates = None
        if files := TlsFiles.of(settings.edge):
            self._certificates = CertificateKeeper(files, self._tls_directory)

    async def __aenter__(self) -> Self:
        open_files.raise_limit()  # For the edge, which inherits the limit.
        log.info("host", mode=self._mode.name, because=self._mode.because)
        try:
            if self._certificates is not None:
                self._certificates.install()
                looking = BackgroundTask("certificates", _LOOK_SECONDS, self._certificates.look)
                self._run(looking.run())
            if self._embedder is not None:
                await self._embedder.start()
                self._run(keep("embedder", self._embedder))
            if self._gateway is not None:
                await self._gateway.start()
                self._run(keep("gateway", self._gateway))
            self._layout = self._made_layout()
            await self._layout.start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    @property
    def mode(self) -> HostMode:
        """Which host serves, and why."""
        return self._mode

    async def restart(self) -> None:
        """Replace the processes one by one; each successor serves before its predecessor drains.

        Raises:
            EdgeError: a new process did not get ready; those not yet replaced serve on.
        """
        assert self._layout is not None, "not started"
        if self._embedder is not None:
            # Started again at once; until its model is loaded, searches go by words.
            await self._embedder.stop(_EMBEDDER_STOP_SECONDS)
        await self._layout.restart(self._stop_seconds)

    @property
    def _stop_seconds(self) -> float:
        return self._settings.process.drain_seconds + _STOP_MARGIN_SECONDS

    def _made_layout(self) -> Layout:
        inside = self._mode.module is not None
        kind = InsideEnvoy if inside else SeparateWorkers
        return kind(
            self._settings,
            self._directory,
            self._environment,
            config=self._edge_config(),
            mode=self._mode,
            run=self._run,
        )

    @property
    def _tls_directory(self) -> Path:
        return self._directory / "tls"

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run until the fleet stops."""
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    def _edge_config(self) -> EdgeConfig:
        settings = self._settings
        return EdgeConfig(
            host=settings.edge.host,
            port=settings.edge.port,
            tls_directory=self._tls_directory if settings.edge.tls else None,
            client_certificates=settings.edge.tls_client_ca_file is not None,
            operator_port=settings.edge.operator_port or None,
            worker_sockets=(),
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
            call_seconds=settings.process.call_seconds,
            stalled_seconds=_stalled_seconds(settings),
            access_log_share=settings.edge.access_log_share,
            max_connections=min(_MAX_CONNECTIONS, open_files.limit() - _FILES_OF_THE_EDGE),
        )

    def _serve_metrics(self) -> int:
        """Serve the sum of all workers' metrics on a loopback port of the kernel's choice."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._directory / "metrics"))  # type: ignore[no-untyped-call]
        registry.register(EXPIRY)
        registry.register(ConnectionCounts(self._edges, asyncio.get_running_loop()))
        server, _ = start_http_server(0, addr="127.0.0.1", registry=registry)
        port = int(server.server_port)
        (self._directory / METRICS_PORT).write_text(str(port))
        return port

    def _edges(self) -> Edges:
        return {} if self._layout is None else self._layout.edges()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._layout is not None:
            await self._layout.stop(self._stop_seconds)
        if self._embedder is not None:
            await self._embedder.stop(_EMBEDDER_STOP_SECONDS)
        if self._gateway is not None:
            await self._gateway.stop(_EMBEDDER_STOP_SECONDS)
        shutil.rmtree(self._directory, ignore_errors=True)


def _stalled_seconds(settings: Settings) -> float:
    """How long nothing passes on a stream that the edge takes for one that nobody reads.

    Longer than a worker's own patience, and than two beats of a stream without news.
    """
    patience = max(settings.process.stream_write_seconds, 2 * settings.inbox.beat)
    return patience + _STALL_MARGIN_SECONDS


def worker_environment() -> dict[str, str]:
    """The environment that a worker inherits: this process's own."""
    return dict(os.environ)
