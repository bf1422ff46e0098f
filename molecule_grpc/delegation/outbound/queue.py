"""Messages for agents' URLs: how they enter the queue, and how they leave our hands."""

from __future__ import annotations

import uuid
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Pool
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
from molecule_grpc.delegation.outbound.until_written import until_written
from molecule_grpc.quotas import Quota
from molecule_grpc.server.task_set import finish
from molecule_grpc.settings.outbound import OutboundSettings

log = structlog.get_logger(__name__)

# When the server stops, an outcome has this long to be written down.
_LAST_SECONDS = 5.0


class Queue:
    """Keeps messages on disk until they have ended.

    Args:
        quota: of the messages that wait for one workspace.

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
        quota: Quota,
    ) -> None:
        self._pool = pool
        self._writes = writes
        self._due_workspaces = due_workspaces
        self._quota = quota
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
        if found is None:
            return None
        return Queued(Mode.BUSY, found, await store.depth(self._pool, workspace_id))

    async def enqueue(self, message: store.QueueMessage, mode: Mode = Mode.BUSY) -> Queued:
        """Keep a message for later. A message that this sender sends again is kept once.

        Args:
            mode: why it waits, for the receipt.

        Raises:
            Exhausted: INBOX_FULL: too many messages wait for the workspace.
        """
        queued = await self._insert(message, mode, owner=None)
        self._due_workspaces.soon(message.workspace_id, self._timing.backoff)
        return queued

    def hold(self, message: store.QueueMessage, organization_id: UUID) -> leases.HeldMessage:
        """Note a message as in this worker's hands; `settle` or `release` must follow.

        Call this before `adopt`: when `adopt` breaks off, nobody knows whether the row is there.
        """
        self.held.add(message.id)
        return leases.HeldMessage(
            id=message.id,
            workspace_id=message.workspace_id,
            organization_id=organization_id,
            caller_id=message.caller_id,
            body=message.body,
            method=message.method,
            message_id=message.message_id,
            delegation_id=None,
            attempts=0,
            misses=0,
            settling=None,
        )

    def release(self, row: leases.HeldMessage) -> None:
        """A message is no longer in this worker's hands: the queue never took it."""
        self.held.discard(row.id)

    async def adopt(self, message: store.QueueMessage) -> Queued:
        """Put a message that this worker is sending into the queue, under its lease.

        The receipt names an earlier row when that row holds this sender's message already.

        Raises:
            Exhausted: INBOX_FULL: too many messages wait for the workspace.
        """
        return await self._insert(message, Mode.PUSH_ASYNC, owner=self.owner)

    async def _insert(
        self, message: store.QueueMessage, mode: Mode, *, owner: str | None
    ) -> Queued:
        async with self._pool.acquire() as conn, conn.transaction():
            row_id = await store.insert(
                conn, message, limit=self._quota.bound, owner=owner, lease_seconds=self._lease
            )
            if row_id is not None:
                # Inside the transaction: a depth that cannot be read leaves no message behind.
                return Queued(mode, row_id, await store.depth(conn, message.workspace_id))
        raise self._quota.refusal(
            message.workspace_id,
            message=f"{self._quota.limit} messages wait for the target, try again later",
        )

    async def settle(self, row: leases.HeldMessage, outcome: DispatchOutcome) -> bool:
        """Write down what became of a message under this worker's lease, and end its delegation.

        False when this worker has no such lease: another has it, or the queue has no such row.
        """
        history = QueueHistory(
            delegated=row.delegation_id is not None,
            attempts=row.attempts,
            misses=row.misses,
            settling=row.settling,
        )
        decision = next_step(outcome, history, self._timing)
        try:
            settled = await finish(self._persist(row, outcome, decision), wait_limit=_LAST_SECONDS)
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
            settled=settled,
        )
        return settled

    async def _persist(
        self, row: leases.HeldMessage, outcome: DispatchOutcome, decision: Decision
    ) -> bool:
        """Write until the outcome is on disk: a message without an outcome is sent again."""
        try:
            return await until_written(lambda: self._write(row, outcome, decision), str(row.id))
        except Exception:
            log.exception("an outcome could not be recorded", queue_id=str(row.id))
        lost = "its outcome could not be recorded"
        last = Decision(QueueStatus.FAILED, decision.attempts, error=lost)
        return await leases.settle(
            self._pool, row.id, self.owner, last, response=None, duration_ms=None, entries=()
        )

    async def _write(
        self, row: leases.HeldMessage, outcome: DispatchOutcome, decision: Decision
    ) -> bool:
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
        return await leases.settle(
            self._pool,
            row.id,
            self.owner,
            decision,
            response=response,
            duration_ms=duration,
            entries=entries,
        )

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
