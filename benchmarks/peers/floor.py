"""The floor of the host inside Envoy: the whole edge, and nothing behind the host."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.harness import free_port
from benchmarks.peers.programs import Missing
from benchmarks.peers.sides import Side
from molecule_grpc.server.edge.config import EdgeConfig
from molecule_grpc.server.edge.filters import hosted_worker
from molecule_grpc.server.process.host_mode import AUTO, host_mode
from molecule_grpc.server.process.hosted_process import HostedProcess
from molecule_grpc.settings.edge import EdgeSettings

_APPLICATION = "benchmarks.peers.floor_application:app"


@contextlib.asynccontextmanager
async def floor(directory: Path) -> AsyncIterator[Side]:
    """Heartbeats that are answered by the host alone. Raises Missing where Envoy cannot load it."""
    mode, port = host_mode(AUTO), free_port()
    if mode.module is None:
        raise Missing(mode.because)
    config = EdgeConfig(
        port=port,
        worker_sockets=(),
        hosted=hosted_worker(mode.module, _APPLICATION),
        concurrency=1,
        rate_limit_per_minute=EdgeSettings().rate_limit_per_minute,
        access_log_share=EdgeSettings().access_log_share,
    )
    own = directory / "floor"
    own.mkdir()
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(own)}
    process = HostedProcess(own, config, mode, environment)
    await process.load()
    try:
        await process.wait_ready()
        yield Side("", [process.pid], f"127.0.0.1:{port}", f"127.0.0.1:{port}")
    finally:
        await asyncio.shield(process.kill())
