"""Inboxes forget: done items after seven days, unread ones after thirty."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.delegation.inbox.ports import OnExpired
from molecule_grpc.delegation.inbox.store import retention
from molecule_grpc.delegation.record import retention as record_retention

# Most old items of one step.
_BATCH = 10_000


class InboxRetention:
    """Deletes old items. Any number of workers may sweep at once: a locked inbox is skipped.

    Args:
        on_expired: told of each delegation whose item left unread, after the commit.
    """

    def __init__(self, pool: Pool, on_expired: OnExpired) -> None:
        self._pool = pool
        self._on_expired = on_expired

    async def sweep(self) -> None:
        """One pass over all inboxes that hold items older than seven days."""
        due: set[UUID] = set()
        after: datetime | None = None

        async def step(limit: int) -> int:
            nonlocal after
            items = await retention.old_items(self._pool, after=after, limit=limit)
            due.update(item.workspace_id for item in items)
            if items:
                after = items[-1].created_at
            return len(items)

        await in_batches("inbox-retention", step, batch=_BATCH)
        for workspace_id in due:
            await self._prune(workspace_id)

    async def _prune(self, workspace_id: UUID) -> None:
        async with self._pool.acquire() as conn:
            expired = await retention.prune(conn, workspace_id)
        for item in expired:
            if item.method == "delegate" and item.delegation_id is not None:
                await self._on_expired(workspace_id, item.delegation_id)


async def purge(conn: Connection, workspace_ids: Sequence[UUID]) -> None:
    """Delete inbox and record of workspaces that are purged, in the caller's transaction.

    The ledger stays.
    """
    await retention.delete_all(conn, workspace_ids)
    await record_retention.purge(conn, workspace_ids)
