"""What is done about approvals without anybody's asking: denying, telling, forgetting."""

from __future__ import annotations

from typing import Final

import structlog
from prometheus_client import Counter

from molecule_grpc.approvals.ports import LeaveMessage
from molecule_grpc.approvals.store import deciding, retention
from molecule_grpc.approvals.values import TIMEOUT, Decided
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.kernel.errors import Exhausted

log = structlog.get_logger(__name__)

EXPIRY_NAME: Final = "approval-expiry"
TELLING_NAME: Final = "approval-decisions"
RETENTION_NAME: Final = "approval-retention"
PERIOD_SECONDS: Final = 5.0
_BATCH: Final = 100
_DROPPED_AT_ONCE: Final = 500
_MOST_REQUESTS: Final = 1000
# Begins the id of the message that tells a decision, so that it is told once.
_MESSAGE: Final = "molecule:approval:"

_EXPIRED: Final = Counter(
    "molecule_approvals_expired_total", "Requests for approval that nobody decided in time."
)


class Upkeep:
    """The sweeps of approvals. All workers may run them at once.

    Args:
        leave: puts a text into an agent's inbox or queue.
        retention_days: how long a decided request stays.
    """

    def __init__(self, pool: Pool, leave: LeaveMessage, *, retention_days: int) -> None:
        self._pool = pool
        self._leave = leave
        self._retention_days = retention_days

    async def expire(self) -> None:
        """Deny what nobody has decided in time."""

        async def step(limit: int) -> int:
            return await deciding.expire(self._pool, limit)

        if expired := await in_batches(EXPIRY_NAME, step, batch=_BATCH):
            _EXPIRED.inc(expired)

    async def tell(self) -> None:
        """Tell agents of decisions. Whose inbox is full is told later, for a day."""

        async def step(limit: int) -> int:
            found = await deciding.take_untold(self._pool, limit)
            told = [each.id for each in found if await self._tell(each)]
            if told:
                await deciding.told(self._pool, told)
            return len(found)

        await in_batches(TELLING_NAME, step, batch=_BATCH)

    async def _tell(self, decided: Decided) -> bool:
        """Whether nothing more is to be done about a decision."""
        try:
            await self._leave(decided.workspace_id, text_of(decided), f"{_MESSAGE}{decided.id}")
        except Exhausted:
            return decided.old
        except Exception:
            log.exception("a decision was not told", approval_id=str(decided.id))
            return decided.old
        return True

    async def sweep(self) -> None:
        """Delete requests that are too old, and what is more than 1,000 of a workspace."""

        async def old(limit: int) -> int:
            return await retention.drop_old(self._pool, self._retention_days, limit)

        async def many(limit: int) -> int:
            return await retention.drop_many(self._pool, _MOST_REQUESTS, limit)

        await in_batches(RETENTION_NAME, old, batch=_DROPPED_AT_ONCE)
        await in_batches(RETENTION_NAME, many, batch=_DROPPED_AT_ONCE)


def text_of(decided: Decided) -> str:
    """What an agent reads of a decision."""
    by = "nobody decided in time" if decided.decided_by == TIMEOUT else f"by {decided.decided_by}"
    lines = [f"Approval {decided.status} ({by}): {decided.action}", f"approval_id: {decided.id}"]
    if decided.task_id:
        lines.append(f"task_id: {decided.task_id}")
    return "\n".join(lines)
