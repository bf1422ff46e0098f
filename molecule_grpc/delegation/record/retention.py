"""The record forgets: rows leave at a set age, unless an undone inbox item needs them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.delegation.record.store import retention

_BATCH = 500


class RecordRetention:
    """Deletes old rows. Any number of workers may sweep at once: locked rows are skipped.

    Args:
        days: age at which a row leaves.
    """

    def __init__(self, pool: Pool, *, days: int) -> None:
        self._pool = pool
        self._days = days

    async def sweep(self) -> None:
        """One pass over all records."""
        await in_batches("activity-retention", self._prune, batch=_BATCH)

    async def _prune(self, limit: int) -> int:
        return await retention.prune(self._pool, days=self._days, limit=limit)


async def purge(conn: Connection, workspace_ids: Sequence[UUID]) -> None:
    """Delete the record of workspaces that are purged, in the caller's transaction."""
    await retention.delete_all(conn, workspace_ids)
