"""The ledger forgets: ended delegations leave after a set time, and the counts stay true."""

from __future__ import annotations

import structlog

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.delegation.ledger.store import retention, tallies

log = structlog.get_logger(__name__)

_BATCH = 2000


class LedgerRetention:
    """Deletes old delegations and keeps the tallies short and true.

    Any number of workers may do so at once: locked rows are skipped, and one worker folds.

    Args:
        days: how long after its end a delegation stays.
    """

    def __init__(self, pool: Pool, *, days: int) -> None:
        self._pool = pool
        self._days = days

    async def sweep(self) -> int:
        """Delete what is due; how many delegations."""

        async def step(limit: int) -> int:
            return await retention.prune(self._pool, days=self._days, limit=limit)

        return await in_batches("delegation-retention", step, batch=_BATCH)

    async def fold(self) -> None:
        """Sum the tallies up, so that a count reads a few rows."""
        async with self._pool.acquire() as conn, conn.transaction():
            await tallies.fold(conn)

    async def recount(self) -> None:
        """Compare what is kept of the ledger with the ledger, and repair it."""
        async with self._pool.acquire() as conn, conn.transaction():
            wrong = await tallies.recount(conn)
        if wrong:
            log.warning("the counts of delegations were wrong, and are repaired", by=wrong)
