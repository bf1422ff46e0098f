"""The scheduler: what fires when its time has come, on all workers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from prometheus_client import Counter, Histogram

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.kernel.errors import Exhausted, NotFound
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.schedules import rules
from molecule_grpc.schedules.ports import Ledger
from molecule_grpc.schedules.store import due as store
from molecule_grpc.schedules.store import runs
from molecule_grpc.schedules.store.due import Claimed, DueRow, Verdict
from molecule_grpc.schedules.store.runs import HandedOver

log = structlog.get_logger(__name__)

NAME: Final = "scheduler"
PERIOD_SECONDS: Final = 10.0
_BATCH: Final = 100
# Tries of a fire that fails for a reason which is not the workspace's; a minute apart.
_MOST_ATTEMPTS: Final = 10

FIRES: Final = Counter(
    "molecule_schedule_fires_total",
    "Fires of schedules: handed over (fired), skipped, ended well (ok) or badly (error).",
    ["outcome"],
)
OUTCOMES: Final = {name: FIRES.labels(name) for name in ("fired", "skipped", "ok", "error")}
_LAG: Final = Histogram(
    "molecule_schedule_lag_seconds",
    "From the time that a schedule names until its fire is taken.",
    buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 3600),
)


class Scheduler:
    """Takes schedules whose time has come and hands their prompts over, each time once.

    A fire is taken by one statement, which enters a row for it and moves the schedule on. The id of
    the row is the id of the delegation: whoever finds the row of a dead worker hands it over again,
    and the ledger has it once.

    Args:
        wake_in: asks for another pass in so many seconds, before the period is over.
    """

    def __init__(self, pool: Pool, ledger: Ledger, wake_in: Callable[[float], None]) -> None:
        self._pool = pool
        self._ledger = ledger
        self._wake_in = wake_in

    async def step(self) -> None:
        """Fire whatever is due, and what dead workers have left."""
        await in_batches(NAME, self._take_over, batch=_BATCH)
        await in_batches(NAME, self._fire_due, batch=_BATCH)
        until_next = await store.seconds_until_next(self._pool)
        if until_next is not None and until_next < PERIOD_SECONDS:
            self._wake_in(max(0.0, until_next))

    async def _fire_due(self, limit: int) -> int:
        found = await store.due(self._pool, limit)
        if found:
            asked = [row.last_fire for row in found if row.last_fire is not None]
            undelivered = await self._ledger.undelivered(asked) if asked else set()
            taken = await store.claim(
                self._pool,
                [_verdict(row, undelivered=row.last_fire in undelivered) for row in found],
            )
            OUTCOMES["skipped"].inc(taken.skipped)
            for fire in taken.fires:
                _LAG.observe(max(0.0, fire.late))
            await self._hand_over(taken.fires)
        return len(found)

    async def _take_over(self, limit: int) -> int:
        left = await runs.take_over(self._pool, limit)
        if left:
            log.warning("fires of schedules were left by a worker", count=len(left))
            await self._hand_over(left)
        return len(left)

    async def _hand_over(self, fires: Sequence[Claimed]) -> None:
        """Hand fires over, all at once: the ledger writes them by one statement."""
        done = await asyncio.gather(*(self._try(fire) for fire in fires))
        noted = [each for each in done if each is not None]
        if noted:
            await runs.handed_over(self._pool, noted)
            refused = sum(each.error != "" for each in noted)
            OUTCOMES["skipped"].inc(refused)
            OUTCOMES["fired"].inc(len(noted) - refused)

    async def _try(self, fire: Claimed) -> HandedOver | None:
        """What became of a fire; None where another try makes sense, when the lease lapses."""
        try:
            await self._ledger.fire(fire.run_id, fire.workspace_id, fire.prompt)
        except (Exhausted, NotFound) as refused:
            return HandedOver(fire.run_id, refused.message)
        except Exception:
            log.exception("a schedule's fire was not handed over", run_id=str(fire.run_id))
            return None if fire.attempts < _MOST_ATTEMPTS else HandedOver(fire.run_id, rules.LOST)
        return HandedOver(fire.run_id, "")


def _verdict(row: DueRow, *, undelivered: bool) -> Verdict:
    decision = rules.decide(
        rules.Due(
            cron_expr=row.cron_expr,
            timezone=row.timezone,
            due=row.next_run_at,
            waiting_since=row.waiting_since,
            paused=row.paused,
            active=row.active,
            room=row.room,
            undelivered=undelivered or row.claimed,
        ),
        row.now,
    )
    return Verdict(
        id=row.id,
        due=row.next_run_at,
        looked_at=row.look_at,
        step=decision.step,
        next_run_at=decision.next_run_at,
        look_at=decision.look_at,
        why=decision.why,
        run_id=new_id(),
    )
