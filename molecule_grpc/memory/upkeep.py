"""Deletes what has expired, and notes which memories agents use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias
from uuid import UUID

import structlog
from prometheus_client import Counter

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.memory.store import places
from molecule_grpc.memory.store import upkeep as store

_log = structlog.get_logger(__name__)

_REAPED = Counter(
    "molecule_grpc_memories_reaped_total",
    "Rows of memories that were deleted because they, or their namespace, had expired.",
    ["kind"],
)
_BATCH: Final = 1_000
_NAMESPACES: Final = 100
Step: TypeAlias = Callable[[int], Awaitable[int]]
# Notes that wait to be written; more are left out.
_MAX_NOTED = 10_000


class Upkeep:
    """What workers do beside the calls. Any number of them may do it at once.

    Args:
        has_plugin: a plugin keeps the memories, and deletes what is purged.
    """

    def __init__(self, pool: Pool, *, has_plugin: bool = False) -> None:
        self._pool = pool
        self._has_plugin = has_plugin
        self._noted: set[tuple[UUID, UUID]] = set()

    async def sweep(self) -> None:
        """Delete expired memories, namespaces and keys."""
        await self._delete("memory", lambda limit: store.drop_expired(self._pool, limit=limit))
        after = (UUID(int=0), "")
        while names := await store.expired_namespaces(self._pool, after, limit=_NAMESPACES):
            for organization_id, name in names:
                await self._drop_namespace(organization_id, name)
            after = names[-1]
        await self._delete("value", lambda limit: store.drop_values(self._pool, limit=limit))
        if not self._has_plugin:
            await self._drop_cleanups()

    def recalled(self, organization_id: UUID, memory_ids: Sequence[UUID]) -> None:
        """Note that somebody has read these memories; written by `note`."""
        if len(self._noted) < _MAX_NOTED:
            self._noted.update((organization_id, each) for each in memory_ids)

    async def note(self) -> None:
        """Write when memories were recalled. A crash loses the notes of the last period."""
        noted, self._noted = sorted(self._noted), set()
        for first in range(0, len(noted), _BATCH):
            await store.note_recalled(self._pool, noted[first : first + _BATCH])

    async def purge(self, conn: Connection, workspace_ids: list[UUID]) -> None:
        """Hide the namespaces of workspaces that are being purged; a sweep deletes them."""
        await store.expire_of(conn, workspace_ids)

    async def _drop_namespace(self, organization_id: UUID, name: str) -> None:
        await self._delete(
            "namespace",
            lambda limit: places.empty(self._pool, organization_id, name, limit=limit),
        )
        await places.drop_namespace(self._pool, organization_id, name)

    async def _drop_cleanups(self) -> None:
        """Forget what waits for a plugin that was configured once and is not any more."""
        dropped = await in_batches(
            "memories: cleanup",
            lambda limit: store.drop_cleanups(self._pool, limit=limit),
            batch=_BATCH,
        )
        if dropped:
            _log.warning(
                "no memory plugin is configured: namespaces of purged workspaces stay in the one "
                "that was",
                namespaces=dropped,
                days=store.CLEANUP_DAYS,
            )

    async def _delete(self, kind: str, step: Step) -> None:
        removed = await in_batches(f"memories: {kind}", step, batch=_BATCH)
        if removed:
            _REAPED.labels(kind).inc(removed)
