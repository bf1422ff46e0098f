"""What became of fires: the ledger is asked, and the history says it. Old history goes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.schedules import rules
from molecule_grpc.schedules.ports import Ledger
from molecule_grpc.schedules.scheduler import OUTCOMES
from molecule_grpc.schedules.store import runs
from molecule_grpc.schedules.store.runs import Outcome
from molecule_grpc.schedules.values import State

OUTCOMES_NAME: Final = "schedule-outcomes"
OUTCOMES_SECONDS: Final = 5.0
RETENTION_NAME: Final = "schedule-retention"
_BATCH: Final = 500
_MOST_RUNS: Final = 200
# A delegation of a fire ends within six hours. Whose row is gone after so many days has ended, too.
_GONE_DAYS: Final = 7


class Outcomes:
    """Notes how fires ended. All workers may do so at once.

    Args:
        retention_days: how long a fire stays in the history.
    """

    def __init__(self, pool: Pool, ledger: Ledger, *, retention_days: int) -> None:
        self._pool = pool
        self._ledger = ledger
        self._retention_days = retention_days

    async def settle(self) -> None:
        """Note the ends of all fires that have ended by now."""
        behind = UUID(int=0)

        async def step(limit: int) -> int:
            nonlocal behind
            found = await runs.running(self._pool, behind=behind, limit=limit, old_days=_GONE_DAYS)
            if not found:
                return 0
            behind = found[-1].id
            ended = await self._ledger.ended([each.id for each in found])
            outcomes = [
                Outcome(
                    one.delegation_id,
                    State.ERROR if one.error else State.OK,
                    one.error,
                    one.empty,
                    one.ended_at,
                )
                for one in ended
            ]
            known = {each.id for each in outcomes}
            outcomes += [
                Outcome(each.id, State.ERROR, rules.FORGOTTEN, False, datetime.now(UTC))
                for each in found
                if each.old and each.id not in known
            ]
            if outcomes:
                for state in await runs.settle(self._pool, outcomes, stale_after=rules.STALE_AFTER):
                    OUTCOMES[state].inc()
            return len(found)

        await in_batches(OUTCOMES_NAME, step, batch=_BATCH)

    async def sweep(self) -> None:
        """Delete history that is too old, and what is more than 200 fires of a schedule."""

        async def old(limit: int) -> int:
            return await runs.drop_old(self._pool, self._retention_days, limit)

        async def many(limit: int) -> int:
            return await runs.drop_many(self._pool, _MOST_RUNS, limit)

        await in_batches(RETENTION_NAME, old, batch=_BATCH)
        await in_batches(RETENTION_NAME, many, batch=_BATCH)
