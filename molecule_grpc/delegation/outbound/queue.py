"""Messages for agents' URLs: how they enter the queue, and how they leave our hands."""

from __future__ import annotations

import asyncio
import time
import uuid
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Fault, Pool, fault
from molecule_grpc.delegation.ledger.ledger import Ledger
from molecule_grpc.delegation.ledger.store import ledger as ledger_store
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
from molecule_grpc.delegation.outbound.store import queue as store
from molecule_grpc.delegation.outbound.store import upkeep
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.server.task_set import finish
from molecule_grpc.settings.settings import Settings

log = structlog.get_logger(__name__)

# How long an outcome is kept in hand while the database is away, and when the process ends.
_PERSIST_SECONDS = 300.0
_LAST_SECONDS = 5.0


class Queue:
    """Keeps messages until they have ended.

    Attributes:
        owner: names our hands among all that hold messages.
        held: what is in them.
    """

    def __init__(
        self,
        pool: Pool,
        writes: LedgerWrites,
        ledger: Ledger,
        due_workspaces: DueWorkspaces,
        settings: Settings,
    ) -> None:
        self._pool = pool
        self._writes = writes
        self._ledger = ledger
        self._due_workspaces = due_workspaces
        self._limit = settings.inbox.max_items
        self._lease = settings.outbound.lease
        self._timing = RetryTiming(
            backoff=settings.outbound.backoff,
            retry=settings.outbound.retry,
            settle=settings.outbound.settle,
        )
        self.owner = uuid.uuid4().hex
        self.held: set[UUID] = set()

    async def find(
        self, workspace_id: UUID, message_id: str, caller_id: UUID | None
    ) -> Queued | None:
        """Where a sender's message waits already; None when it does not."""
        found = await store.find(self._pool, workspace_id, message_id, caller_id)
        return None if found is None else await self._queued(found, workspace_id, Mode.BUSY)

    async def enqueue(self, message: store.QueueMessage) -> Queued:
        """Keep a message for later. One that this sender has put here already stays as it is.

        Raises:
            Exhausted: INBOX_FULL.
        """
        row_id = await self._insert(message, owner=None)
        self._due_workspaces.soon(message.workspace_id, self._timing.backoff)
        return await self._queued(row_id, message.workspace_id, Mode.BUSY)

    async def adopt(self, message: store.QueueMessage) -> tuple[store.HeldMessage, Queued]:
        """Keep a message that is on its way, in our hands: its outcome goes to `settle`."""
        row_id = await self._insert(message, owner=self.owner)
        self.held.add(row_id)
        row = store.HeldMessage(
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

    async def settle(self, row: store.HeldMessage, outcome: DispatchOutcome) -> None:
        """Write down what became of a message in our hands, and of its delegation."""
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
        self, row: store.HeldMessage, outcome: DispatchOutcome, decision: Decision
    ) -> None:
        """Until it is on disk: an answer that is forgotten is a message that is sent again."""
        give_up = time.monotonic() + _PERSIST_SECONDS
        pause = 0.2
        while True:
            try:
                await self._write(row, outcome, decision)
                return
            except Exception as error:
                if fault(error) is not Fault.OUTAGE or time.monotonic() > give_up:
                    log.exception("an outcome could not be recorded", queue_id=str(row.id))
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, 5.0)
        lost = "its outcome could not be recorded"
        last = Decision(QueueStatus.FAILED, decision.attempts, error=lost)
        await store.settle(
            self._pool, row.id, self.owner, last, response=None, duration_ms=None, entries=()
        )

    async def _write(
        self, row: store.HeldMessage, outcome: DispatchOutcome, decision: Decision
    ) -> None:
        # The ledger first: whoever finds the row of a delegation that has ended lets go of it.
        if decision.end is not None:
            await self._writes.move(self._move(row, decision.end))
        response, duration, entries = None, None, []
        if isinstance(outcome, Delivered) and decision.row is not QueueStatus.QUEUED:
            response, duration = outcome.reply.stored, outcome.duration_ms
            if row.delegation_id is None:
                entries = [
                    records.delivered(
                        row.workspace_id, row.caller_id, row.method, row.body, outcome
                    )
                ]
        settled = await store.settle(
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

    def _move(self, row: store.HeldMessage, end: End) -> ledger_store.Move:
        assert row.delegation_id is not None
        move = self._ledger.draft_move(
            row.delegation_id,
            row.workspace_id,
            end.status,
            text=end.text if end.status == "completed" else None,
            error=end.error if end.status != "completed" else None,
            reason=end.reason,
        )
        via = "queue_drain" if end.status == "completed" else None
        return move._replace(final=end.final, via=via)

    async def drop(self, row: store.HeldMessage) -> None:
        """Let go of a message in our hands whose delegation was called off."""
        try:
            await upkeep.drop(self._pool, row.id, self.owner)
        except Exception:
            # When its lease lapses, whoever takes it finds that its delegation has ended.
            log.exception("a message could not be dropped", queue_id=str(row.id))
        finally:
            self.held.discard(row.id)
            self._due_workspaces.add(row.workspace_id)
        log.info("delivery was called off", queue_id=str(row.id), delegation_id=row.delegation_id)

    async def renew(self) -> None:
        """Keep what is in our hands."""
        if held := list(self.held):
            kept = await upkeep.renew(self._pool, held, self.owner, self._lease)
            if lost := self.held.intersection(held) - kept:
                log.warning("leases were lost", count=len(lost))
