"""Sends a message to an agent's URL on behalf of a sender who waits for the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.outbound import records, rules
from molecule_grpc.delegation.outbound.dispatch import Dispatcher
from molecule_grpc.delegation.outbound.open_calls import OpenCall, OpenCalls
from molecule_grpc.delegation.outbound.outcome import (
    Delivered,
    DispatchOutcome,
    Failed,
    Mode,
    SendFailure,
)
from molecule_grpc.delegation.outbound.queue import Queue
from molecule_grpc.delegation.outbound.store import targets
from molecule_grpc.delegation.outbound.store.leases import HeldMessage
from molecule_grpc.delegation.outbound.store.queue import QueueMessage
from molecule_grpc.delegation.outbound.until_written import passes, until_written
from molecule_grpc.delegation.record.a2a import Envelope
from molecule_grpc.delegation.record.writes import RecordWrites
from molecule_grpc.directory import WorkspaceInfo
from molecule_grpc.kernel.errors import Exhausted, MoleculeError
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.json_text import to_text
from molecule_grpc.server.task_set import TaskSet, finish
from molecule_grpc.settings.outbound import OutboundSettings

log = structlog.get_logger(__name__)

# A message on its way when the server stops has this long to be put down.
_LAST_SECONDS = 3.0
# The status of a workspace whose messages wait until somebody resumes it.
_PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Answered:
    """An agent's answer to a human."""

    target: WorkspaceInfo
    method: str
    outcome: Delivered


Show = Callable[[Answered], Awaitable[None]]


async def show_nobody(answered: Answered) -> None:
    """For installations without a feed of events."""


@dataclass(slots=True)
class _Sending:
    """A message on its way.

    Args:
        row: the row of the queue that holds the message since its sender stopped waiting.
        adopted: whether the queue said that it has that row; otherwise it may have it or not.
        outcome: what became of the message, once that is known.
    """

    target: WorkspaceInfo
    source_id: UUID | None
    message: QueueMessage
    row: HeldMessage | None = None
    adopted: bool = False
    outcome: DispatchOutcome | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Push:
    """Delivers a message at once, or leaves it in the queue.

    Args:
        calls: counts the calls under way; a message without room among them is queued.
        show: called with each answer to a human.
    """

    def __init__(
        self,
        pool: Pool,
        records: RecordWrites,
        queue: Queue,
        dispatcher: Dispatcher,
        calls: OpenCalls,
        tasks: TaskSet,
        settings: OutboundSettings,
        *,
        show: Show = show_nobody,
    ) -> None:
        self._pool = pool
        self._records = records
        self._queue = queue
        self._dispatcher = dispatcher
        self._calls = calls
        self._tasks = tasks
        self._ceiling = settings.ceiling
        self._canvas_wait = settings.canvas_wait
        self._show = show

    async def send(
        self,
        target: WorkspaceInfo,
        source_id: UUID | None,
        envelope: Envelope,
        *,
        wait_limit: float | None,
        headers: Mapping[str, str],
    ) -> DispatchOutcome:
        """Send a message and wait for the outcome.

        The call to the agent goes on when the sender leaves. A sender that stops waiting gets a
        queue id; by then the message is on disk.

        Args:
            source_id: who sends; None for a human.
            wait_limit: seconds that the sender waits; 0 without a limit, None for the default: no
                limit for agents, `canvas_wait` for humans.

        Raises:
            Invalid: the message's priority or expiry is not one.
            Exhausted: INBOX_FULL: the sender stopped waiting, or too many calls are open, and the
                queue is full.
        """
        message = _queue_message(target.id, source_id, envelope)
        waiting = await self._queue.find(target.id, message.message_id, source_id)
        if waiting is not None:
            return waiting
        if target.status == _PAUSED:
            return await self._queue.enqueue(message, Mode.PAUSED)
        sending = _Sending(target, source_id, message)
        body = json.dumps(envelope.body, separators=(",", ":")).encode()
        call = OpenCall(target.organization_id, target.id, len(body))
        try:
            self._calls.take(call)
        except Exhausted:
            return await self._queue.enqueue(message)
        task = self._tasks.spawn(
            self._send(sending, body, headers), name=f"send-{message.message_id}"
        )
        task.add_done_callback(lambda _: self._calls.end(call))
        await asyncio.wait({task}, timeout=self._wait(source_id, wait_limit))
        if task.done():
            return task.result()
        return await self._adopt(sending)

    async def leave(self, target_id: UUID, envelope: Envelope) -> None:
        """Put a message into the queue, for whose answer nobody waits.

        Raises:
            Exhausted: INBOX_FULL.
        """
        await self._queue.enqueue(_queue_message(target_id, None, envelope))

    async def _adopt(self, sending: _Sending) -> DispatchOutcome:
        """Leave a message that is on its way to the queue; the outcome if that came first."""
        async with sending.lock:
            if sending.outcome is not None:
                return sending.outcome
            # Noted before the first await: whatever breaks `adopt` off, the row may be there.
            sending.row = row = self._queue.hold(sending.message, sending.target.organization_id)
            try:
                queued = await self._queue.adopt(sending.message)
            except Exhausted:
                self._never_queued(sending, row)
                raise
            if queued.queue_id == row.id:
                sending.adopted = True
            else:
                # An earlier queue row holds the message: the holder of the row's lease settles it.
                self._never_queued(sending, row)
            return queued

    def _never_queued(self, sending: _Sending, row: HeldMessage) -> None:
        self._queue.release(row)
        sending.row = None

    def _wait(self, source_id: UUID | None, wait_limit: float | None) -> float | None:
        if wait_limit is None:
            return self._canvas_wait if source_id is None else None
        return wait_limit or None

    async def _send(
        self, sending: _Sending, body: bytes, headers: Mapping[str, str]
    ) -> DispatchOutcome:
        # A human's call has no ceiling: only the agent's silence ends the call.
        ceiling = None if sending.source_id is None else self._ceiling
        try:
            outcome: DispatchOutcome = await self._dispatcher.dispatch(
                sending.target, body, ceiling=ceiling, headers=headers
            )
        except asyncio.CancelledError:
            stopped = Failed(SendFailure.BUSY, "the server is shutting down")
            with suppress(Exception):
                async with asyncio.timeout(_LAST_SECONDS):
                    await self._finish(sending, stopped)
            raise
        return await finish(self._finish(sending, outcome), wait_limit=_LAST_SECONDS)

    async def _finish(self, sending: _Sending, outcome: DispatchOutcome) -> DispatchOutcome:
        async with sending.lock:
            if sending.row is not None:
                settled = await self._queue.settle(sending.row, outcome)
                if not settled and not sending.adopted:
                    sending.row = None
            if sending.row is None and _busy(outcome):
                outcome = await self._enqueue(sending, outcome)
            sending.outcome = outcome
        if isinstance(outcome, Delivered):
            await self._note(sending, outcome)
        return outcome

    async def _enqueue(self, sending: _Sending, outcome: DispatchOutcome) -> DispatchOutcome:
        """Put the message into the queue; the failure itself when the queue does not take it."""
        try:
            return await self._queue.enqueue(sending.message)
        except (MoleculeError, OSError) as error:
            log.warning("not queued", workspace_id=str(sending.target.id), reason=str(error))
        except Exception:
            log.exception("not queued", workspace_id=str(sending.target.id))
        return outcome

    async def _note(self, sending: _Sending, outcome: Delivered) -> None:
        """Record an answer and show it to humans. The sender gets the answer even if this fails."""
        try:
            if sending.row is None:
                await self._record(sending, outcome)
            if sending.source_id is not None:
                await targets.touch_outbound(self._pool, sending.source_id)
            else:
                await self._show(Answered(sending.target, sending.message.method, outcome))
        except Exception:
            log.exception("an answer was not recorded", workspace_id=str(sending.target.id))

    async def _record(self, sending: _Sending, outcome: Delivered) -> None:
        """Append an answer to the record; later, without its sender waiting, if need be."""
        message = sending.message
        entry = records.delivered(
            sending.target.id, sending.source_id, message.method, message.body, outcome
        )
        try:
            await self._records.append(entry, kept=True)
        except Exception as error:
            if not passes(error):
                raise
            self._tasks.spawn(
                until_written(lambda: self._records.append(entry, kept=True), message.message_id),
                name=f"record-{message.message_id}",
            )


def _queue_message(target_id: UUID, source_id: UUID | None, envelope: Envelope) -> QueueMessage:
    return QueueMessage(
        id=new_id(),
        workspace_id=target_id,
        caller_id=source_id,
        priority=rules.priority(envelope),
        body=to_text(envelope.body, "body"),
        method=envelope.method,
        message_id=envelope.message_id,
        expiry=rules.expiry(envelope),
    )


def _busy(outcome: DispatchOutcome) -> bool:
    return isinstance(outcome, Failed) and outcome.failure is SendFailure.BUSY
