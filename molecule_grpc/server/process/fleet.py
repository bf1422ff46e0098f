"""N workers and the edge in front of them, as one thing to start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Self

import httpx
import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from molecule_grpc.server.children import spawn, stop
from molecule_grpc.server.edge.config import EdgeConfig
from molecule_grpc.server.hosts.envoy import Edge
from molecule_grpc.settings.settings import Settings

log = structlog.get_logger(__name__)

# Awaits the end of a process, started by the call or before; returns the exit code.
Life = Callable[[], Awaitable[int]]

_READY_SECONDS = 60.0
_READY_POLL_SECONDS = 0.05
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

    async def __aenter__(self) -> Self:
        try:
            for index in range(self._settings.process.workers):
                work = partial(self._work, index)
                self._keep(f"worker {index}", work, work)
            self._edge = edge = Edge(self._edge_config(), self._directory)
            await edge.start()
            await edge.wait_ready()
            self._keep("edge", edge.wait, partial(_reopen, edge))
            await self._answering()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _answering(self) -> None:
        """Wait until a call goes all the way through.

        Raises:
            TimeoutError: no call did within 60 s; the workers' log says why.
        """
        url = f"{self._settings.edge.local_url}/health"
        async with httpx.AsyncClient() as client, asyncio.timeout(_READY_SECONDS):
            while True:
                with contextlib.suppress(httpx.TransportError):  # the edge may just start again
                    if (await client.get(url)).status_code == httpx.codes.OK:
                        return
                await asyncio.sleep(_READY_POLL_SECONDS)

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
