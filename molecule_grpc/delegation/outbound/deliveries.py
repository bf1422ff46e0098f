"""Delivers messages that wait for agents, and keeps the queue in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from uuid import UUID

import structlog
from prometheus_client import Counter, Gauge

from molecule_grpc.db.pool import Fault, Pool, fault
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.db.wakeups import Wakeups, delegation_key
from molecule_grpc.delegation.ledger.store import views as ledger_views
from molecule_grpc.delegation.outbound.dispatch import Dispatcher
from molecule_grpc.delegation.outbound.due import DueWorkspaces
from molecule_grpc.delegation.outbound.open_calls import OpenCall, OpenCalls
from molecule_grpc.delegation.outbound.outcome import (
    DispatchOutcome,
    Failed,
    Mode,
    NotSent,
    Queued,
    SendFailure,
)
from molecule_grpc.delegation.outbound.queue import Queue
from molecule_grpc.delegation.outbound.store import leases, targets, upkeep
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.delegation.record.writes import RecordWrites
from molecule_grpc.directory import Directory
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.server.task_set import TaskSet
from molecule_grpc.settings.outbound import OutboundSettings

log = structlog.get_logger(__name__)

_DEPTH = Gauge(
    "molecule_a2a_queue_depth", "Messages that wait for agents.", multiprocess_mode="mostrecent"
)
_AGE = Gauge(
    "molecule_a2a_queue_age_seconds",
    "Age of the oldest message that waits for an agent.",
    multiprocess_mode="mostrecent",
)
_REDELIVERED = Counter(
    "molecule_a2a_queue_redelivered_total", "Messages whose sender died with them in hand."
)

_PHANTOMS = Counter(
    "molecule_phantom_busy_resets_total",
    "Workspaces that said they were busy without doing anything.",
)

# Messages and workspaces of one claim.
_BATCH = 8
_WORKSPACES_AT_ONCE = 64
_UPKEEP_BATCH = 500
_PRUNE_BATCH = 5000
_WAKE_BATCH = 100
_BEFORE_ALL = UUID(int=0)
# A wake-up can be lost: a delivery looks this often, in seconds, whether it was called off.
_LOOK_SECONDS = 15.0


class Deliveries:
    """Delivers messages as agents have room. Any number of workers may do so at once.

    Args:
        kept_days: days for which an ended message stays.
        calls: counts the deliveries under way among all calls to agents. Messages of an
            organisation without room wait for the next sweep.
        tasks: holds the deliveries under way.
        draining: whether the server is about to stop: no delivery begins then.
        tasks_changed: called with workspaces whose count of active tasks was reset to 0.
        wake: begins to start a hibernated agent.
    """

    def __init__(
        self,
        pool: Pool,
        queue: Queue,
        records: RecordWrites,
        directory: Directory,
        dispatcher: Dispatcher,
        calls: OpenCalls,
        settings: OutboundSettings,
        *,
        kept_days: int,
        wakeups: Wakeups,
        due_workspaces: DueWorkspaces,
        tasks: TaskSet,
        draining: Callable[[], bool] = lambda: False,
        tasks_changed: Callable[[Iterable[UUID]], None] = lambda _: None,
        wake: Callable[[UUID], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._queue = queue
        self._records = records
        self._directory = directory
        self._dispatcher = dispatcher
        self._calls = calls
        self._wakeups = wakeups
        self._due_workspaces = due_workspaces
        self._tasks = tasks
        self._draining = draining
        self._tasks_changed = tasks_changed
        self._wake = wake
        self._kept_days = kept_days
        self._lease = settings.lease
        self._ceiling = settings.ceiling

    async def run(self) -> None:
        """Deliver for ever, to the workspaces that are due."""
        while True:
            wanted = list(await self._due_workspaces.take())
            for start in range(0, len(wanted), _WORKSPACES_AT_ONCE):
                try:
                    await self._claim(wanted[start : start + _WORKSPACES_AT_ONCE])
                except Exception as error:
                    outage = fault(error) is Fault.OUTAGE
                    log.warning(
                        "nothing could be claimed",
                        error=type(error).__name__,
                        exc_info=not outage,
                    )

    async def _claim(self, workspace_ids: Sequence[UUID]) -> None:
        taken = _BATCH
        while taken == _BATCH and not self._draining():
            room = min(_BATCH, self._calls.room)
            if room <= 0:
                return
            async with self._pool.acquire() as conn, conn.transaction():
                claimed = await leases.claim(
                    conn,
                    workspace_ids,
                    limit=room,
                    owner=self._queue.owner,
                    lease_seconds=self._lease,
                    without=self._calls.full_organizations,
                )
            for row in claimed.rows:
                self._queue.held.add(row.id)
                self._begin(row)
            if keys := _keys(claimed.rows):
                self._wakeups.announce({*keys, CHANNEL_ALL})
            taken = len(claimed.rows) + claimed.dropped

    def _begin(self, row: leases.HeldMessage) -> None:
        call = OpenCall(row.organization_id, row.workspace_id, len(row.body))
        self._calls.count(call)
        delivering = self._tasks.spawn(self._deliver(row), name=f"deliver-{row.id}")
        delivering.add_done_callback(lambda _: self._calls.end(call))

    async def _deliver(self, row: leases.HeldMessage) -> None:
        try:
            outcome = await self._unless_called_off(row)
        except asyncio.CancelledError:
            try:
                with suppress(Exception):
                    await upkeep.give_back(self._pool, row.id, self._queue.owner)
            finally:
                self._queue.held.discard(row.id)
            raise
        except Exception:
            log.exception("delivery broke off", queue_id=str(row.id))
            outcome = Failed(SendFailure.BUSY, "the platform could not send it")
        if outcome is None:
            await self._queue.drop(row)
        else:
            await self._queue.settle(row, outcome)

    async def _unless_called_off(self, row: leases.HeldMessage) -> DispatchOutcome | None:
        """What became of a message; None when its delegation was cancelled, through any worker."""
        if row.delegation_id is None:
            return await self._send(row)
        sending = asyncio.ensure_future(self._send(row))
        try:
            with self._wakeups.watch(delegation_key(row.delegation_id)) as flag:
                sending.add_done_callback(lambda _: flag.set())
                while not sending.done():
                    flag.clear()
                    if (
                        await self._cancelled(row.delegation_id, row.workspace_id)
                        and not sending.done()
                    ):
                        return None
                    await flag.wait(_LOOK_SECONDS)
            return sending.result()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _cancelled(self, delegation_id: str, callee_id: UUID) -> bool:
        try:
            return await ledger_views.cancelled(self._pool, delegation_id, callee_id)
        except Exception:  # noqa: BLE001  (not knowing is no reason to hang up on an agent)
            return False

    async def _send(self, row: leases.HeldMessage) -> DispatchOutcome:
        target = await self._directory.lookup(row.workspace_id)
        if target is None:
            return NotSent("WORKSPACE_NOT_FOUND", "the workspace was removed")
        if row.delegation_id and await targets.over_budget(self._pool, target.id):
            return NotSent("BUDGET_EXCEEDED", "the workspace's monthly budget is used up")
        if target.delivery_mode == "poll":
            return await self._to_inbox(row)
        return await self._dispatcher.dispatch(target, row.body.encode(), ceiling=self._ceiling)

    async def _to_inbox(self, row: leases.HeldMessage) -> DispatchOutcome:
        """Put a message into the inbox of an agent that has stopped listening at a URL."""
        entry = Entry(
            workspace_id=row.workspace_id,
            activity_id=new_id(),
            activity_type="a2a_receive",
            method="delegate" if row.delegation_id else row.method,
            source_id=row.caller_id,
            target_id=row.workspace_id,
            request_body=row.body,
            message_id=row.message_id or str(row.id),
            sender_id=row.caller_id,
            delegation_id=row.delegation_id,
            bytes=len(row.body.encode()),
        )
        try:
            await self._records.append(entry, kept=True)
        except Exhausted as full:
            return Failed(SendFailure.BUSY, full.message)
        return Queued(Mode.POLL)

    async def sweep(self) -> None:
        """Put back messages of dead workers, drop expired ones, see who is due."""
        again = await in_batches(
            "a2a-reclaim",
            lambda limit: upkeep.reclaim(self._pool, list(self._queue.held), limit=limit),
            batch=_UPKEEP_BATCH,
        )
        if again:
            _REDELIVERED.inc(again)
            log.warning("messages were put back", count=again)
        await in_batches(
            "a2a-expire", lambda limit: upkeep.expire(self._pool, limit=limit), batch=_UPKEEP_BATCH
        )
        waiting = await upkeep.waiting(self._pool)
        _DEPTH.set(sum(one.messages for one in waiting))
        _AGE.set(max((one.age for one in waiting), default=0.0))
        self._due_workspaces.reset({one.workspace_id: one.due_in for one in waiting})

    async def wake_sleepers(self) -> None:
        """Wake the hibernated workspaces for which something waits.

        Who sends something to a workspace that hibernates wakes it first. This finds those that
        went to sleep in that moment, and what entered an inbox by another way.
        """
        last = _BEFORE_ALL

        async def step(limit: int) -> int:
            nonlocal last
            found = await upkeep.sleepers_in_demand(self._pool, after=last, limit=limit)
            for workspace_id in found:
                await self._wake(workspace_id)
                last = workspace_id
            return len(found)

        await in_batches("a2a-wake", step, batch=_WAKE_BATCH)

    async def prune(self) -> None:
        """Delete messages whose time after their end is over."""
        await in_batches(
            "a2a-prune",
            lambda limit: upkeep.prune(self._pool, days=self._kept_days, limit=limit),
            batch=_PRUNE_BATCH,
        )

    async def reset_phantoms(self) -> None:
        """Reset the count of active tasks of agents that have shown no activity for 10 minutes."""
        reset: list[UUID] = []

        async def step(limit: int) -> int:
            found = await targets.reset_phantoms(self._pool, limit=limit)
            reset.extend(found)
            return len(found)

        await in_batches("phantom-busy", step, batch=_UPKEEP_BATCH)
        if reset:
            _PHANTOMS.inc(len(reset))
            self._due_workspaces.agents_have_room(reset)
            self._tasks_changed(reset)
            log.warning("agents were not busy after all", count=len(reset))


def _keys(rows: Iterable[leases.HeldMessage]) -> set[UUID]:
    return {delegation_key(row.delegation_id) for row in rows if row.delegation_id}
