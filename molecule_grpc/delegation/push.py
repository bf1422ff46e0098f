"""Sends a message to an agent's URL on behalf of a caller who waits for the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation import dispatch_rules, records
from molecule_grpc.delegation.a2a import Envelope
from molecule_grpc.delegation.bodies import to_text
from molecule_grpc.delegation.dispatch import Dispatcher
from molecule_grpc.delegation.journal import Journal
from molecule_grpc.delegation.outcome import Delivered, DispatchOutcome, Failed, Failure
from molecule_grpc.delegation.queue import Queue
from molecule_grpc.delegation.store import targets
from molecule_grpc.delegation.store.queue import Message, Row
from molecule_grpc.errors import MoleculeError
from molecule_grpc.facts import Facts
from molecule_grpc.ids import new_id
from molecule_grpc.server.task_set import TaskSet, finish
from molecule_grpc.settings import Settings
from molecule_grpc.text import clean

log = structlog.get_logger(__name__)

_LAST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Answered:
    """An agent's answer to a human."""

    target: Facts
    method: str
    outcome: Delivered


Show = Callable[[Answered], Awaitable[None]]


async def show_nobody(answered: Answered) -> None:
    """For installations without a feed of events."""


@dataclass(slots=True)
class _Flight:
    """A message on its way.

    Args:
        row: set when it was put into the queue because its sender does not wait any more.
        outcome: set when it has arrived.
    """

    target: Facts
    source_id: UUID | None
    message: Message
    row: Row | None = None
    outcome: DispatchOutcome | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Push:
    """Delivers at once, or sees to it that it is delivered later.

    Args:
        show: told of answers to humans.
    """

    def __init__(
        self,
        pool: Pool,
        journal: Journal,
        queue: Queue,
        dispatcher: Dispatcher,
        tasks: TaskSet,
        settings: Settings,
        *,
        show: Show = show_nobody,
    ) -> None:
        self._pool = pool
        self._journal = journal
        self._queue = queue
        self._dispatcher = dispatcher
        self._tasks = tasks
        self._ceiling = settings.a2a_ceiling
        self._canvas_wait = settings.a2a_canvas_wait
        self._show = show

    async def send(
        self,
        target: Facts,
        source_id: UUID | None,
        envelope: Envelope,
        *,
        patience: float | None,
        headers: Mapping[str, str],
    ) -> DispatchOutcome:
        """Send a message and wait for what becomes of it.

        A caller that leaves does not stop it. One that is out of patience gets a queue id, and the
        message is on disk by then.

        Args:
            source_id: who sends; None for a human.
            patience: seconds that the caller waits; 0 for as long as it takes, None for the
                default: as long as it takes for agents, 90 s for humans.

        Raises:
            Invalid: priority or life of the message make no sense.
        """
        message = Message(
            id=new_id(),
            workspace_id=target.id,
            caller_id=source_id,
            priority=dispatch_rules.priority(envelope),
            body=to_text(envelope.body, "body"),
            method=clean(envelope.method)[:128],
            message_id=clean(envelope.message_id),
            life=dispatch_rules.life(envelope),
        )
        waiting = await self._queue.find(target.id, message.message_id, source_id)
        if waiting is not None:
            return waiting
        flight = _Flight(target, source_id, message)
        body = json.dumps(envelope.body, separators=(",", ":")).encode()
        task = self._tasks.spawn(
            self._fly(flight, body, headers), name=f"send-{message.message_id}"
        )
        await asyncio.wait({task}, timeout=self._wait(source_id, patience))
        if task.done():
            return task.result()
        async with flight.lock:
            if flight.outcome is not None:
                return flight.outcome
            flight.row, queued = await self._queue.adopt(message)
            return queued

    def _wait(self, source_id: UUID | None, patience: float | None) -> float | None:
        if patience is None:
            return self._canvas_wait if source_id is None else None
        return patience or None

    async def _fly(
        self, flight: _Flight, body: bytes, headers: Mapping[str, str]
    ) -> DispatchOutcome:
        # Humans may wait for as long as they like.
        ceiling = None if flight.source_id is None else self._ceiling
        try:
            outcome: DispatchOutcome = await self._dispatcher.dispatch(
                flight.target, body, ceiling=ceiling, headers=headers
            )
        except asyncio.CancelledError:
            stopped = Failed(Failure.BUSY, "the server is shutting down")
            with suppress(Exception):
                async with asyncio.timeout(_LAST_SECONDS):
                    await self._land(flight, stopped)
            raise
        return await finish(self._land(flight, outcome), patience=_LAST_SECONDS)

    async def _land(self, flight: _Flight, outcome: DispatchOutcome) -> DispatchOutcome:
        async with flight.lock:
            if flight.row is not None:
                await self._queue.settle(flight.row, outcome)
            elif isinstance(outcome, Failed) and outcome.failure is Failure.BUSY:
                outcome = await self._enqueue(flight, outcome)
            flight.outcome = outcome
        if isinstance(outcome, Delivered):
            await self._note(flight, outcome)
        return outcome

    async def _enqueue(self, flight: _Flight, outcome: Failed) -> DispatchOutcome:
        """In the queue; the failure as it is when that fails."""
        try:
            return await self._queue.enqueue(flight.message)
        except (MoleculeError, OSError) as error:
            log.warning("not queued", workspace_id=str(flight.target.id), reason=str(error))
        except Exception:
            log.exception("not queued", workspace_id=str(flight.target.id))
        return outcome

    async def _note(self, flight: _Flight, outcome: Delivered) -> None:
        """Side effects of an answer. The answer counts even where they fail."""
        try:
            if flight.row is None:
                message = flight.message
                await self._journal.append(
                    records.delivered(
                        flight.target.id, flight.source_id, message.method, message.body, outcome
                    )
                )
            if flight.source_id is not None:
                await targets.touch_outbound(self._pool, flight.source_id)
            else:
                await self._show(Answered(flight.target, flight.message.method, outcome))
        except Exception:
            log.exception("an answer was not recorded", workspace_id=str(flight.target.id))
