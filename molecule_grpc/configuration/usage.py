"""Tokens that agents' answers tell of, counted in memory and written a moment later."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.configuration.store import usage
from molecule_grpc.configuration.store.usage import Used
from molecule_grpc.db.pool import Pool


class TokenCounts:
    """Counts the tokens of workspaces. Of a worker that is killed the last seconds are lost."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._counts: dict[UUID, Used] = {}

    def note(self, workspace_id: UUID, read: int, written: int) -> None:
        """An answer tells of these tokens."""
        before = self._counts.get(workspace_id, Used(0, 0, 0))
        self._counts[workspace_id] = _sum(before, Used(read, written, 1))

    async def write(self) -> None:
        """Add what was noted to the tokens of today; what is not written is kept for next time."""
        counts, self._counts = self._counts, {}
        try:
            await usage.add(self._pool, counts)
        except BaseException:
            for workspace_id, used in self._counts.items():
                before = counts.get(workspace_id, Used(0, 0, 0))
                counts[workspace_id] = _sum(before, used)
            self._counts = counts
            raise


def _sum(one: Used, other: Used) -> Used:
    return Used(one.read + other.read, one.written + other.written, one.calls + other.calls)
