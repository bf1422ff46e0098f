"""Items that were set aside, for operators: look at them, send them again, drop them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.delegation.inbox.store import dead_letters
from molecule_grpc.kernel.errors import NotFound


class DeadLetters:
    """Items that failed five times, for the admin slice.

    `organization_id` None is the operator, who sees all of them.
    """

    def __init__(self, pool: Pool, wakeups: Wakeups) -> None:
        self._pool = pool
        self._wakeups = wakeups

    async def list_rows(
        self,
        *,
        organization_id: UUID | None,
        workspace_id: UUID | None,
        before: tuple[datetime, UUID, int] | None,
        limit: int,
    ) -> list[dead_letters.DeadLetter]:
        """Items that were set aside, newest first; None leaves a filter out."""
        page = dead_letters.DeadLetterQuery(organization_id, workspace_id, before, limit)
        return await dead_letters.list_rows(self._pool, page)

    async def drop(self, workspace_id: UUID, seq: int, organization_id: UUID | None) -> None:
        """Take an item off the list. Raises `NotFound` when it is not on it."""
        async with self._pool.acquire() as conn:
            if not await dead_letters.drop(conn, workspace_id, seq, organization_id):
                raise _not_found()

    async def replay(self, workspace_id: UUID, seq: int, organization_id: UUID | None) -> int:
        """Send an item again; its new number. Raises `NotFound` when it is not on the list."""
        async with self._pool.acquire() as conn, conn.transaction():
            again = await dead_letters.replay(conn, workspace_id, seq, organization_id)
            if again is None:
                raise _not_found()
        self._wakeups.wake([workspace_id])
        return again


def _not_found() -> NotFound:
    return NotFound("no poisoned item of this number", reason="ITEM_NOT_FOUND")
