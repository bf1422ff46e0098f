"""Inboxes forget: done items after seven days, unread ones after thirty, by default."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.delegation.inbox.ports import OnExpired
from molecule_grpc.delegation.inbox.store import retention
from molecule_grpc.delegation.record import retention as record_retention
from molecule_grpc.delegation.record.store import usage

_INBOXES_AT_ONCE = 1000
_ITEMS_AT_ONCE = 5000


class InboxRetention:
    """Deletes old items. Any number of workers may sweep at once: a locked inbox is skipped.

    Args:
        done_days: age at which acked items and dead letters leave.
        unread_days: age at which unread ones leave.
        on_expired: told of each delegation whose item left unread, after the commit.
    """

    def __init__(
        self, pool: Pool, on_expired: OnExpired, *, done_days: int, unread_days: int
    ) -> None:
        self._pool = pool
        self._on_expired = on_expired
        self._done_days = done_days
        self._unread_days = unread_days

    async def sweep(self) -> None:
        """One pass over all inboxes."""
        after = UUID(int=0)

        async def step(limit: int) -> int:
            nonlocal after
            looked = await retention.look(
                self._pool,
                after=after,
                done_days=self._done_days,
                unread_days=self._unread_days,
                limit=limit,
            )
            for workspace_id in (inbox.workspace_id for inbox in looked if inbox.due):
                await self._prune(workspace_id)
            if looked:
                after = looked[-1].workspace_id
            return len(looked)

        await in_batches("inbox-retention", step, batch=_INBOXES_AT_ONCE)

    async def _prune(self, workspace_id: UUID) -> None:
        async def step(limit: int) -> int:
            async with self._pool.acquire() as conn:
                pruned = await retention.prune(
                    conn,
                    workspace_id,
                    done_days=self._done_days,
                    unread_days=self._unread_days,
                    limit=limit,
                )
            for item in pruned.expired:
                if item.method == "delegate" and item.delegation_id is not None:
                    await self._on_expired(workspace_id, item.delegation_id)
            return pruned.items

        await in_batches("inbox-items", step, batch=_ITEMS_AT_ONCE)


async def purge(conn: Connection, workspace_ids: Sequence[UUID]) -> None:
    """Delete inbox and record of workspaces that are purged, in the caller's transaction.

    The ledger stays.
    """
    await retention.delete_all(conn, workspace_ids)
    await usage.forget(conn, workspace_ids)
    await record_retention.purge(conn, workspace_ids)
