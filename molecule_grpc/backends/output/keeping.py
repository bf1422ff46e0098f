"""The end of what an agent printed, kept when its workload is removed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import structlog

from molecule_grpc.backends.contract.entering import LogChunk
from molecule_grpc.backends.contract.failures import BackendFailure, WorkloadMissing
from molecule_grpc.backends.contract.names import Capability
from molecule_grpc.backends.contract.workloads import Resource
from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.backends.output import store
from molecule_grpc.db.pool import Pool

log = structlog.get_logger(__name__)

KEPT_BYTES: Final = 256 * 1024
# The engine counts lines, and the longest piece of one has 16 KiB.
_LINES: Final = 10_000
# A stop waits so long at most: an engine that gives no logs gives no stop, either.
_SECONDS: Final = 5.0


class KeptOutput:
    """Keeps the last 256 KiB that the workloads of each workspace printed, over all its starts."""

    def __init__(self, pool: Pool, dispatch: Dispatch) -> None:
        self._pool = pool
        self._dispatch = dispatch

    async def keep(self, backend: str, resource: Resource) -> None:
        """Keep what a workload printed that is about to be removed. Never raises for the engine.

        Args:
            backend: where it runs; empty where it never ran.
        """
        if not backend:
            return
        try:
            asked = self._dispatch.of(backend)
            if Capability.LOGS not in asked.capabilities:
                return
            kept = await self.of(resource.workspace_id)
            since = kept[-1].offset if kept else 0
            tail = _Tail(kept)
            async with asyncio.timeout(_SECONDS):
                chunks = asked.logs(resource, since=since, tail=_LINES, deadline=_SECONDS)
                async for chunk in chunks:
                    if chunk.data:
                        tail.add(chunk)
        except (BackendFailure, WorkloadMissing, TimeoutError) as error:
            log.info(
                "what an agent printed last was not kept",
                workspace_id=str(resource.workspace_id),
                cause=type(error).__name__,
            )
            return
        lines = tail.lines
        if lines and lines[-1].offset > since:
            await store.put(self._pool, resource.workspace_id, lines)

    async def of(self, workspace_id: UUID) -> list[LogChunk]:
        """What is kept of a workspace, oldest first."""
        return await store.get(self._pool, workspace_id)


class _Tail:
    """The last lines of a text that grows, as many as fit."""

    def __init__(self, chunks: Iterable[LogChunk]) -> None:
        self._lines: deque[LogChunk] = deque()
        self._bytes = 0
        for chunk in chunks:
            self.add(chunk)

    def add(self, chunk: LogChunk) -> None:
        self._lines.append(chunk)
        self._bytes += len(chunk.data)
        while self._bytes > KEPT_BYTES:
            self._bytes -= len(self._lines.popleft().data)

    @property
    def lines(self) -> list[LogChunk]:
        return list(self._lines)
