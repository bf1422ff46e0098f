"""Ends delegations that are past their deadline, or whose agents fell silent."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Counter, Histogram

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.delegation.ledger.moves import draft_move
from molecule_grpc.delegation.ledger.rules import Status
from molecule_grpc.delegation.ledger.store import views
from molecule_grpc.delegation.ledger.writes import LedgerWrites

log = structlog.get_logger(__name__)

_SWEPT = Counter(
    "molecule_delegation_swept_total", "Delegations that the sweeper looked at.", ["outcome"]
)
_OUTCOMES = {name: _SWEPT.labels(name) for name in ("deadline", "stuck", "race", "error")}
_SECONDS = Histogram("molecule_delegation_sweep_seconds", "How long a sweep took.")
_BATCH = 500


class Sweeper:
    """Fails delegations past their deadline, then marks silent ones as stuck.

    Any number of workers may sweep at once: one of them makes the move, and only while its reason
    still holds.

    Args:
        stuck_after: seconds without a heartbeat after which a delegation is stuck. No delegation is
            stuck before the worker has run this long: its own downtime makes heartbeats look old.
    """

    def __init__(self, pool: Pool, writes: LedgerWrites, *, stuck_after: float) -> None:
        self._pool = pool
        self._writes = writes
        self._stuck_after = timedelta(seconds=stuck_after)
        self._grace_until = time.monotonic() + stuck_after

    async def sweep(self) -> int:
        """One pass; how many delegations it ended."""
        with _SECONDS.time():
            ended = 0

            async def step(limit: int) -> int:
                nonlocal ended
                found = await views.lapsed(self._pool, beat_before=self._beat_before(), limit=limit)
                swept = sum(await asyncio.gather(*(self._end(one) for one in found)))
                ended += swept
                # When no move succeeds, the next batch would be the same rows again.
                return len(found) if swept else 0

            await in_batches("delegation-sweeper", step, batch=_BATCH)
            return ended

    def _beat_before(self) -> datetime | None:
        if time.monotonic() < self._grace_until:
            return None
        return datetime.now(UTC) - self._stuck_after

    async def _end(self, one: views.Lapsed) -> bool:
        """End a delegation; False when another move came first, or the move failed."""
        if one.overdue:
            move = draft_move(
                one.delegation_id,
                one.caller_id,
                Status.FAILED,
                error="deadline exceeded by sweeper",
                reason="deadline",
            )._replace(overdue=True)
        else:
            silence = timedelta(seconds=int(self._stuck_after.total_seconds()))
            move = draft_move(
                one.delegation_id, one.caller_id, Status.STUCK, error=f"no heartbeat for {silence}"
            )._replace(beat_before=self._beat_before())
        try:
            outcome = await self._writes.move(move._replace(of_organization=one.organization_id))
        except Exception:
            _OUTCOMES["error"].inc()
            log.exception("delegation not swept", delegation_id=one.delegation_id)
            return False
        if not outcome.moved:
            _OUTCOMES["race"].inc()
            log.info("sweep lost a race", delegation_id=one.delegation_id, status=outcome.before)
            return False
        _OUTCOMES["deadline" if one.overdue else "stuck"].inc()
        return True
