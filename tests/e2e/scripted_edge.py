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

from molecule_grpc.server.edge.config import EdgeConfig
from molecule_grpc.server.edge.process import Edge
from tests.e2e.scripted_worker import Reply, ScriptedWorker
from tests.ports import free_port
from tests.waiting import PATIENCE


@dataclass(frozen=True)
class ScriptedEdge:
    """The edge as clients see it, and the workers behind it."""

    edge: Edge
    port: int
    workers: list[ScriptedWorker]
    http: httpx.AsyncClient
    channel: grpc.aio.Channel

    @property
    def worker(self) -> ScriptedWorker:
        """The first worker."""
        return self.workers[0]

    def script(self, *replies: Reply) -> None:
        """Let the first worker answer like this from now on."""
        self.worker.script(*replies)

    async def native(self, path: str, request: bytes = b"", **options: Any) -> bytes:
        """Make a unary gRPC call. Requests and responses are bytes."""
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(path)
        return await call(request, timeout=PATIENCE, **options)


@contextlib.asynccontextmanager
async def scripted_edge(*, workers: int = 1, **config: Any) -> AsyncIterator[ScriptedEdge]:
    """Run workers and an edge; `config` is for EdgeConfig."""
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-")))
        sockets = [directory / f"worker-{index}.sock" for index in range(workers)]
        serving = [await stack.enter_async_context(ScriptedWorker(path)) for path in sockets]
        http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        edge = Edge(
            EdgeConfig(port=port, worker_sockets=sockets, concurrency=1, **config), directory
        )
        await stack.enter_async_context(http)
        await stack.enter_async_context(channel)
        stack.push_async_callback(edge.stop)
        await edge.start()
        await edge.wait_ready()
        yield ScriptedEdge(edge, port, serving, http, channel)
