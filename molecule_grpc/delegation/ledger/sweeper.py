"""Ends delegations that nobody will finish."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Counter, Histogram

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.ledger.ledger import Ledger
from molecule_grpc.delegation.ledger.rules import Status
from molecule_grpc.delegation.ledger.store import views as ledger_views
from molecule_grpc.delegation.ledger.writes import LedgerWrites

log = structlog.get_logger(__name__)

_SWEPT = Counter(
    "molecule_delegation_swept_total", "Delegations that the sweeper looked at.", ["outcome"]
)
_OUTCOMES = {name: _SWEPT.labels(name) for name in ("deadline", "stuck", "race", "error")}
_SECONDS = Histogram("molecule_delegation_sweep_seconds", "How long a sweep took.")
_BATCH = 500


class Sweeper:
    """Fails what is past its deadline, and marks as stuck what fell silent. Deadline first.

    Several may sweep at once: a move is made by one of them, and only while its reason holds.

    Args:
        stuck_after: seconds of silence after the last beat. For so long after the start nothing
            is called stuck: our own downtime makes every beat look old.
    """

    def __init__(
        self, pool: Pool, writes: LedgerWrites, ledger_: Ledger, *, stuck_after: float
    ) -> None:
        self._pool = pool
        self._writes = writes
        self._ledger = ledger_
        self._stuck_after = timedelta(seconds=stuck_after)
        self._grace_until = time.monotonic() + stuck_after

    async def sweep(self) -> int:
        """One pass; how many delegations it ended."""
        with _SECONDS.time():
            ended = 0
            while True:
                found = await ledger_views.lapsed(
                    self._pool, beat_before=self._beat_before(), limit=_BATCH
                )
                swept = await asyncio.gather(*(self._end(one) for one in found))
                ended += sum(swept)
                if len(found) < _BATCH or not any(swept):
                    return ended

    def _beat_before(self) -> datetime | None:
        if time.monotonic() < self._grace_until:
            return None
        return datetime.now(UTC) - self._stuck_after

    async def _end(self, one: ledger_views.Lapsed) -> bool:
        """Move one of them; False when it moved by itself meanwhile, or could not be moved."""
        if one.overdue:
            move = self._ledger.draft_move(
                one.delegation_id,
                one.caller_id,
                Status.FAILED,
                error="deadline exceeded by sweeper",
                reason="deadline",
            )._replace(overdue=True)
        else:
            silence = timedelta(seconds=int(self._stuck_after.total_seconds()))
            move = self._ledger.draft_move(
                one.delegation_id, one.caller_id, Status.STUCK, error=f"no heartbeat for {silence}"
            )._replace(beat_before=self._beat_before())
        try:
            outcome = await self._writes.move(move)
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
