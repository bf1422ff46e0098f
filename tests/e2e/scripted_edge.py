"""A real edge in front of scripted workers, with clients for it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx

from molecule_grpc.server.edge import Edge, EdgeConfig
from tests.e2e.scripted_worker import Reply, ScriptedWorker
from tests.running import free_port


@dataclass(frozen=True)
class ScriptedEdge:
    """The edge as clients see it, and the worker behind it."""

    edge: Edge
    port: int
    worker: ScriptedWorker
    http: httpx.AsyncClient
    channel: grpc.aio.Channel

    def script(self, *replies: Reply) -> None:
        """Let the worker answer like this from now on."""
        self.worker.script(*replies)

    async def native(self, path: str, request: bytes = b"", **options: Any) -> bytes:
        """Make a unary gRPC call. Requests and responses are bytes."""
        call = self.channel.unary_unary(path)
        answer: bytes = await call(request, timeout=10, **options)
        return answer


@contextlib.asynccontextmanager
async def scripted_edge(**config: Any) -> AsyncIterator[ScriptedEdge]:
    """Run one worker and one edge; `config` is for EdgeConfig."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="edge-") as name:
        directory = Path(name)
        socket = directory / "worker.sock"
        settings = EdgeConfig(port=port, worker_sockets=[socket], concurrency=1, **config)
        edge = Edge(settings, directory)
        async with (
            ScriptedWorker(socket) as worker,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as http,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            await edge.start()
            try:
                await edge.wait_ready()
                yield ScriptedEdge(edge, port, worker, http, channel)
            finally:
                await edge.stop()
