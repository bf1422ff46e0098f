"""The queue of messages for agents' URLs: what waits, who has it in hand, what became of it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from uuid import UUID

import structlog
from prometheus_client import Counter, Gauge

from molecule_grpc.db.pool import Fault, Pool, fault
from molecule_grpc.db.wakeups import Wakeups, delegation_key
from molecule_grpc.delegation import records
from molecule_grpc.delegation.dispatch import Dispatcher
from molecule_grpc.delegation.dispatch_rules import End, Pace, Row, Standing, Verdict, judge
from molecule_grpc.delegation.journal import Journal
from molecule_grpc.delegation.ledger import Ledger
from molecule_grpc.delegation.nudges import Nudges
from molecule_grpc.delegation.outcome import (
    Delivered,
    DispatchOutcome,
    Failed,
    Failure,
    Mode,
    Queued,
    Refused,
)
from molecule_grpc.delegation.ports import Directory
from molecule_grpc.delegation.store import ledger as ledger_store
from molecule_grpc.delegation.store import queue as store
from molecule_grpc.delegation.store import queue_upkeep as upkeep
from molecule_grpc.delegation.store import targets
from molecule_grpc.delegation.store.entries import Entry
from molecule_grpc.errors import Exhausted
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.ids import new_id
from molecule_grpc.server.task_set import TaskSet, finish
from molecule_grpc.settings import Settings

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

_BATCH = 8
_WORKSPACES_AT_ONCE = 64
_IN_FLIGHT = 256
_UPKEEP_BATCH = 500
# How long an outcome is kept in hand while the database is away, and when the process ends.
_PERSIST_SECONDS = 300.0
_LAST_SECONDS = 5.0


class Queue:
    """Delivers what waits, as agents have room. Any number of workers may do so at once.

    Args:
        tasks: where deliveries run.
        draining: whether nothing new shall be begun.
    """

    def __init__(
        self,
        pool: Pool,
        journal: Journal,
        ledger: Ledger,
        directory: Directory,
        dispatcher: Dispatcher,
        settings: Settings,
        *,
        wakeups: Wakeups,
        nudges: Nudges,
        tasks: TaskSet,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._pool = pool
        self._journal = journal
        self._ledger = ledger
        self._directory = directory
        self._dispatcher = dispatcher
        self._wakeups = wakeups
        self._nudges = nudges
        self._tasks = tasks
        self._draining = draining
        self._limit = settings.inbox_max_items
        self._lease = settings.a2a_lease
        self._ceiling = settings.a2a_ceiling
        self._pace = Pace(
            backoff=settings.a2a_backoff, retry=settings.a2a_retry, settle=settings.a2a_settle
        )
        self._owner = uuid.uuid4().hex
        self._held: set[UUID] = set()

    # Entering.

    async def find(
        self, workspace_id: UUID, message_id: str, caller_id: UUID | None
    ) -> Queued | None:
        """Where a sender's message waits already; None when it does not."""
        found = await store.find(self._pool, workspace_id, message_id, caller_id)
        return None if found is None else await self._queued(found, workspace_id, Mode.BUSY)

    async def enqueue(self, message: store.Message) -> Queued:
        """Keep a message for later. One that this sender has put here already stays as it is.

        Raises:
            Exhausted: INBOX_FULL.
        """
        row_id = await self._insert(message, owner=None)
        self._nudges.soon(message.workspace_id, self._pace.backoff)
        return await self._queued(row_id, message.workspace_id, Mode.BUSY)

    async def adopt(self, message: store.Message) -> tuple[store.Row, Queued]:
        """Keep a message that is on its way, in our hands: its outcome goes to `settle`."""
        row_id = await self._insert(message, owner=self._owner)
        self._held.add(row_id)
        row = store.Row(
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

    async def _insert(self, message: store.Message, *, owner: str | None) -> UUID:
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

    # Delivering.

    async def run(self) -> None:
        """Deliver for ever, to the workspaces that were nudged."""
        while True:
            wanted = list(await self._nudges.take())
            for start in range(0, len(wanted), _WORKSPACES_AT_ONCE):
                try:
                    await self._claim(wanted[start : start + _WORKSPACES_AT_ONCE])
                except Exception:
                    # The next sweep looks at all of them again.
                    log.exception("nothing could be claimed")

    async def _claim(self, workspace_ids: Sequence[UUID]) -> None:
        taken = _BATCH
        while taken == _BATCH and not self._draining():
            room = min(_BATCH, _IN_FLIGHT - len(self._held))
            if room <= 0:
                return
            async with self._pool.acquire() as conn, conn.transaction():
                claimed = await store.claim(
                    conn,
                    workspace_ids,
                    limit=room,
                    owner=self._owner,
                    lease_seconds=self._lease,
                )
            for row in claimed.rows:
                self._held.add(row.id)
                self._tasks.spawn(self._deliver(row), name=f"deliver-{row.id}")
            if keys := _keys(claimed.rows):
                self._wakeups.announce({*keys, CHANNEL_ALL})
            taken = len(claimed.rows) + claimed.dropped

    async def _deliver(self, row: store.Row) -> None:
        try:
            outcome = await self._send(row)
        except asyncio.CancelledError:
            with suppress(Exception):
                await upkeep.give_back(self._pool, row.id, self._owner)
            self._held.discard(row.id)
            raise
        except Exception:
            log.exception("delivery broke off", queue_id=str(row.id))
            outcome = Failed(Failure.BUSY, "the platform could not send it")
        await self.settle(row, outcome)

    async def _send(self, row: store.Row) -> DispatchOutcome:
        target = await self._directory.lookup(row.workspace_id)
        if target is None:
            return Refused("WORKSPACE_NOT_FOUND", "the workspace was removed")
        if row.delegation_id and await targets.over_budget(self._pool, target.id):
            return Refused("BUDGET_EXCEEDED", "the workspace's monthly budget is used up")
        if target.delivery_mode == "poll":
            return await self._to_inbox(row)
        return await self._dispatcher.dispatch(target, row.body.encode(), ceiling=self._ceiling)

    async def _to_inbox(self, row: store.Row) -> DispatchOutcome:
        """The agent has stopped listening at a URL meanwhile."""
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
            await self._journal.append(entry)
        except Exhausted as full:
            return Failed(Failure.BUSY, full.message)
        return Queued(Mode.POLL)

    async def settle(self, row: store.Row, outcome: DispatchOutcome) -> None:
        """Write down what became of a message in our hands, and of its delegation."""
        standing = Standing(
            delegated=row.delegation_id is not None,
            attempts=row.attempts,
            misses=row.misses,
            settling=row.settling,
        )
        verdict = judge(outcome, standing, self._pace)
        try:
            await finish(self._persist(row, outcome, verdict), patience=_LAST_SECONDS)
        finally:
            self._held.discard(row.id)
            self._nudges.add(row.workspace_id)
            self._nudges.soon(row.workspace_id, verdict.delay)
        log.info(
            "message left our hands",
            queue_id=str(row.id),
            workspace_id=str(row.workspace_id),
            delegation_id=row.delegation_id,
            status=verdict.row,
            attempts=verdict.attempts,
        )

    async def _persist(self, row: store.Row, outcome: DispatchOutcome, verdict: Verdict) -> None:
        """Until it is on disk: an answer that is forgotten is a message that is sent again."""
        give_up = time.monotonic() + _PERSIST_SECONDS
        pause = 0.2
        while True:
            try:
                await self._write(row, outcome, verdict)
                return
            except Exception as error:
                if fault(error) is not Fault.OUTAGE or time.monotonic() > give_up:
                    log.exception("an outcome could not be recorded", queue_id=str(row.id))
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, 5.0)
        lost = "its outcome could not be recorded"
        last = Verdict(Row.FAILED, verdict.attempts, error=lost)
        await store.settle(
            self._pool, row.id, self._owner, last, response=None, duration_ms=None, entries=()
        )

    async def _write(self, row: store.Row, outcome: DispatchOutcome, verdict: Verdict) -> None:
        # The ledger first: whoever finds the row of a delegation that has ended lets go of it.
        if verdict.end is not None:
            await self._journal.move(self._move(row, verdict.end))
        response, duration, entries = None, None, []
        if isinstance(outcome, Delivered) and verdict.row is not Row.QUEUED:
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
            self._owner,
            verdict,
            response=response,
            duration_ms=duration,
            entries=entries,
        )
        if not settled:
            log.warning("a message was in other hands meanwhile", queue_id=str(row.id))

    def _move(self, row: store.Row, end: End) -> ledger_store.Move:
        assert row.delegation_id is not None
        move = self._ledger.draft_move(
            row.delegation_id,
            None,
            end.status,
            text=end.text if end.status == "completed" else None,
            error=end.error if end.status != "completed" else None,
            reason=end.reason,
        )
        return move._replace(final=end.final)

    # Upkeep.

    async def renew(self) -> None:
        """Keep what is in our hands."""
        if held := list(self._held):
            kept = await upkeep.renew(self._pool, held, self._owner, self._lease)
            if lost := self._held.intersection(held) - kept:
                log.warning("leases were lost", count=len(lost))

    async def sweep(self) -> None:
        """Put back what the dead held, let go of what has expired, look at all that waits."""
        if again := await upkeep.reclaim(self._pool, list(self._held), limit=_UPKEEP_BATCH):
            _REDELIVERED.inc(again)
            log.warning("messages were put back", count=again)
        await upkeep.expire(self._pool, limit=_UPKEEP_BATCH)
        await upkeep.prune(self._pool, limit=_UPKEEP_BATCH)
        waiting = await upkeep.waiting(self._pool)
        _DEPTH.set(sum(one.messages for one in waiting))
        _AGE.set(max((one.age for one in waiting), default=0.0))
        self._nudges.replace({one.workspace_id: one.due_in for one in waiting})


def _keys(rows: Iterable[store.Row]) -> set[UUID]:
    return {delegation_key(row.delegation_id) for row in rows if row.delegation_id}
