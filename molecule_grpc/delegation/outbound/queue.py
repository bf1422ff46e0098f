"""Messages for agents' URLs: how they enter the queue, and how they leave our hands."""

from __future__ import annotations

import asyncio
import time
import uuid
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Fault, Pool, fault
from molecule_grpc.delegation.ledger.moves import draft_move
from molecule_grpc.delegation.ledger.rules import Status
from molecule_grpc.delegation.ledger.store.move import Move
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.delegation.outbound import records
from molecule_grpc.delegation.outbound.due import DueWorkspaces
from molecule_grpc.delegation.outbound.outcome import Delivered, DispatchOutcome, Mode, Queued
from molecule_grpc.delegation.outbound.rules import (
    Decision,
    End,
    QueueHistory,
    QueueStatus,
    RetryTiming,
    next_step,
)
from molecule_grpc.delegation.outbound.store import leases, upkeep
from molecule_grpc.delegation.outbound.store import queue as store
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.server.task_set import finish
from molecule_grpc.settings.outbound import OutboundSettings

log = structlog.get_logger(__name__)

# How long writing an outcome is retried while the database is away; how long when the server stops.
_PERSIST_SECONDS = 300.0
_LAST_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 5.0


class Queue:
    """Keeps messages on disk until they have ended.

    Args:
        limit: most messages that may wait for one workspace.

    Attributes:
        owner: this worker's name among all that hold leases.
        held: ids of the messages under this worker's lease.
    """

    def __init__(
        self,
        pool: Pool,
        writes: LedgerWrites,
        due_workspaces: DueWorkspaces,
        settings: OutboundSettings,
        *,
        limit: int,
    ) -> None:
        self._pool = pool
        self._writes = writes
        self._due_workspaces = due_workspaces
        self._limit = limit
        self._lease = settings.lease
        self._timing = RetryTiming(
            backoff=settings.backoff,
            retry=settings.retry,
            settle=settings.settle,
        )
        self.owner = uuid.uuid4().hex
        self.held: set[UUID] = set()

    async def find(
        self, workspace_id: UUID, message_id: str, caller_id: UUID | None
    ) -> Queued | None:
        """Where a message waits that this sender has sent before; None when it does not wait."""
        found = await store.find(self._pool, workspace_id, message_id, caller_id)
        return None if found is None else await self._queued(found, workspace_id, Mode.BUSY)

    async def enqueue(self, message: store.QueueMessage) -> Queued:
        """Keep a message for later. A message that this sender sends again is kept once.

        Raises:
            Exhausted: INBOX_FULL: too many messages wait for the workspace.
        """
        row_id = await self._insert(message, owner=None)
        self._due_workspaces.soon(message.workspace_id, self._timing.backoff)
        return await self._queued(row_id, message.workspace_id, Mode.BUSY)

    async def adopt(self, message: store.QueueMessage) -> tuple[leases.HeldMessage, Queued]:
        """Keep a message that this worker is sending, under its lease; `settle` must follow.

        Raises:
            Exhausted: INBOX_FULL: too many messages wait for the workspace.
        """
        row_id = await self._insert(message, owner=self.owner)
        self.held.add(row_id)
        row = leases.HeldMessage(
            id=row_id,
            workspace_id=message.workspace_id,
            caller_id=message.caller_id,
            body=message.body,
            method=message.method,
            message_id=message.message_id,
            delegation_id=None,
            attempts=0,
            misses=0,
            settling=None,
        )
        return row, await self._queued(row_id, message.workspace_id, Mode.PUSH_ASYNC)

    async def _insert(self, message: store.QueueMessage, *, owner: str | None) -> UUID:
        async with self._pool.acquire() as conn, conn.transaction():
            row_id = await store.insert(
                conn, message, limit=self._limit, owner=owner, lease_seconds=self._lease
            )
        if row_id is None:
            raise Exhausted(
                f"{self._limit} messages wait for the target, try again later",
                reason="INBOX_FULL",
                retry_after=30,
            )
        return row_id

    async def _queued(self, row_id: UUID, workspace_id: UUID, mode: Mode) -> Queued:
        return Queued(mode, row_id, await store.depth(self._pool, workspace_id))

    async def settle(self, row: leases.HeldMessage, outcome: DispatchOutcome) -> None:
        """Write down what became of a message under this worker's lease, and end its delegation."""
        history = QueueHistory(
            delegated=row.delegation_id is not None,
            attempts=row.attempts,
            misses=row.misses,
            settling=row.settling,
        )
        decision = next_step(outcome, history, self._timing)
        try:
            await finish(self._persist(row, outcome, decision), wait_limit=_LAST_SECONDS)
        finally:
            self.held.discard(row.id)
            self._due_workspaces.add(row.workspace_id)
            self._due_workspaces.soon(row.workspace_id, decision.delay)
        log.info(
            "message left our hands",
            queue_id=str(row.id),
            workspace_id=str(row.workspace_id),
            delegation_id=row.delegation_id,
            status=decision.row,
            attempts=decision.attempts,
        )

    async def _persist(
        self, row: leases.HeldMessage, outcome: DispatchOutcome, decision: Decision
    ) -> None:
        """Write until the outcome is on disk: a message without an outcome is sent again."""
        give_up = time.monotonic() + _PERSIST_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._write(row, outcome, decision)
                return
            except Exception as error:
                if fault(error) is not Fault.OUTAGE or time.monotonic() > give_up:
                    log.exception("an outcome could not be recorded", queue_id=str(row.id))
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)
        lost = "its outcome could not be recorded"
        last = Decision(QueueStatus.FAILED, decision.attempts, error=lost)
        await leases.settle(
            self._pool, row.id, self.owner, last, response=None, duration_ms=None, entries=()
        )

    async def _write(
        self, row: leases.HeldMessage, outcome: DispatchOutcome, decision: Decision
    ) -> None:
        # The ledger first: if the row stays queued, its next claim finds the delegation ended.
        if decision.end is not None:
            await self._writes.move(_move_of(row, decision.end))
        response, duration, entries = None, None, []
        if isinstance(outcome, Delivered) and decision.row is not QueueStatus.QUEUED:
            response, duration = outcome.reply.stored, outcome.duration_ms
            if row.delegation_id is None:
                entries = [
                    records.delivered(
                        row.workspace_id, row.caller_id, row.method, row.body, outcome
                    )
                ]
        settled = await leases.settle(
            self._pool,
            row.id,
            self.owner,
            decision,
            response=response,
            duration_ms=duration,
            entries=entries,
        )
        if not settled:
            log.warning("a message was in other hands meanwhile", queue_id=str(row.id))

    async def drop(self, row: leases.HeldMessage) -> None:
        """Drop a message under this worker's lease whose delegation was called off."""
        try:
            await upkeep.drop(self._pool, row.id, self.owner)
        except Exception:
            # When the lease lapses, the next claim drops the row: its delegation has ended.
            log.exception("a message could not be dropped", queue_id=str(row.id))
        finally:
            self.held.discard(row.id)
            self._due_workspaces.add(row.workspace_id)
        log.info("delivery was called off", queue_id=str(row.id), delegation_id=row.delegation_id)

    async def renew(self) -> None:
        """Extend the leases of all messages that this worker sends."""
        if held := list(self.held):
            kept = await upkeep.renew(self._pool, held, self.owner, self._lease)
            if lost := self.held.intersection(held) - kept:
                log.warning("leases were lost", count=len(lost))


def _move_of(row: leases.HeldMessage, end: End) -> Move:
    """The move that ends a message's delegation."""
    assert row.delegation_id is not None
    completed = end.status is Status.COMPLETED
    move = draft_move(
        row.delegation_id,
        row.workspace_id,
        end.status,
        text=end.text if completed else None,
        error=None if completed else end.error,
        reason=end.reason,
    )
    return move._replace(final=end.final, via="queue_drain" if completed else None)
