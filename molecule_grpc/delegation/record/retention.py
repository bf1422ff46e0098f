"""The record forgets: rows leave at a set age, unless an undone inbox item needs them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.delegation.record.store import retention

_RECORDS_AT_ONCE = 1000
_ROWS_AT_ONCE = 5000


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
        after = UUID(int=0)

        async def step(limit: int) -> int:
            nonlocal after
            looked = await retention.look(self._pool, after=after, days=self._days, limit=limit)
            for workspace_id in (record.workspace_id for record in looked if record.due):
                await self._prune(workspace_id)
            if looked:
                after = looked[-1].workspace_id
            return len(looked)

        await in_batches("record-retention", step, batch=_RECORDS_AT_ONCE)

    async def _prune(self, workspace_id: UUID) -> None:
        async def step(limit: int) -> int:
            return await retention.prune(self._pool, workspace_id, days=self._days, limit=limit)

        await in_batches("record-rows", step, batch=_ROWS_AT_ONCE)


async def purge(conn: Connection, workspace_ids: Sequence[UUID]) -> None:
    """Delete the record of workspaces that are purged, in the caller's transaction."""
    await retention.delete_all(conn, workspace_ids)
