"""Runs operations: every worker takes what waits, and takes over what others left."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

import structlog

from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.backends.operations.endings import Endings
from molecule_grpc.backends.operations.execution import Execution, NotOurs
from molecule_grpc.backends.operations.rules import State
from molecule_grpc.backends.operations.store import runs
from molecule_grpc.backends.operations.values import Ending, Operation
from molecule_grpc.db.pool import Fault, Pool, fault
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.settings.backends import BackendSettings

log = structlog.get_logger(__name__)

# Watched and announced like a workspace; no workspace has this id.
OPERATIONS: Final = UUID("b1d6a0f0-5c1e-5f0a-8e5e-7b3a52c1f001")

_BATCH: Final = 50
_STOPS_AT_ONCE: Final = 32
_RENEWALS_IN_A_LEASE: Final = 3
_CANCELLED: Final = Ending(state=State.CANCELLED, reason="cancelled", message="")
_INTERNAL: Final = "the platform failed to carry out the operation"


class _Run:
    """One operation under way here."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.cancel = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Runner:
    """Takes operations and runs them, until cancelled; then others take them over at once.

    Args:
        owner: names this runner among all, and after a restart anew.
    """

    def __init__(
        self,
        pool: Pool,
        wakeups: Wakeups,
        dispatch: Dispatch,
        execution: Execution,
        endings: Endings,
        settings: BackendSettings,
        owner: str,
    ) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._dispatch = dispatch
        self._execution = execution
        self._endings = endings
        self._settings = settings
        self._owner = owner
        self._runs: dict[UUID, _Run] = {}
        self._kept_until = time.monotonic()
        self._look: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Look for work when there is news, and three times in each lease."""
        period = self._settings.lease / _RENEWALS_IN_A_LEASE
        with self._wakeups.watch(OPERATIONS) as flag:
            self._look = flag.set
            try:
                while True:
                    flag.clear()
                    await self._turn(period)
                    await flag.wait(period)
            finally:
                await self._leave()

    async def _turn(self, limit: float) -> None:
        try:
            async with asyncio.timeout(limit):
                await self._keep()
                if await runs.anything_due(self._pool):
                    await self._take()
        except Exception as error:  # noqa: BLE001  (the next turn tries again)
            log.warning("operations were not looked for", error=type(error).__name__)
            if time.monotonic() > self._kept_until:
                # Others may have begun with them.
                self._drop(list(self._runs))

    async def _keep(self) -> None:
        """Renew the leases of what runs here, and hear what shall be cancelled."""
        asked, ids = time.monotonic(), list(self._runs)
        kept = await runs.renew(self._pool, self._owner, self._settings.lease, ids) if ids else {}
        self._kept_until = asked + self._settings.lease
        self._drop([each for each in ids if each not in kept])
        for operation_id, cancel in kept.items():
            run = self._runs.get(operation_id)
            if cancel and run is not None and run.operation.kind.starts:
                run.cancel.set()

    async def _take(self) -> None:
        settings = self._settings
        for operation in await runs.adopt(self._pool, self._owner, settings.lease, _BATCH):
            log.warning(
                "an operation is taken over",
                operation_id=str(operation.id),
                workspace_id=str(operation.workspace_id),
                attempt=operation.attempt,
            )
            self._begin(operation)
        stopping = sum(not run.operation.kind.starts for run in self._runs.values())
        room = runs.Room(
            starts=settings.concurrency,
            starts_of_organization=settings.concurrency_per_organization,
            starts_here=_BATCH,
            stops_here=max(0, _STOPS_AT_ONCE - stopping),
        )
        taken = await runs.claim(self._pool, self._owner, settings.lease, room)
        for operation in taken:
            self._begin(operation)
        if len(taken) >= _BATCH:
            self._look()

    def _begin(self, operation: Operation) -> None:
        run = self._runs[operation.id] = _Run(operation)
        run.task = asyncio.create_task(self._execute(run), name=f"operation {operation.id}")

    async def _execute(self, run: _Run) -> None:
        operation = run.operation
        try:
            ending = await self._outcome(run)
            backend = self._dispatch.starts_on if operation.kind.starts else operation.runs_on
            if await self._endings.end(operation, ending, backend) and operation.kind.starts:
                self._wakeups.announce([OPERATIONS])
        except NotOurs:
            log.warning("an operation was taken over", operation_id=str(operation.id))
        except Exception:
            # The operation's lease lapses, and another worker takes the operation over.
            log.exception("an operation was not ended", operation_id=str(operation.id))
        finally:
            if self._runs.get(operation.id) is run:
                del self._runs[operation.id]
            self._look()

    async def _outcome(self, run: _Run) -> Ending:
        operation = run.operation
        if operation.cancel_requested and operation.kind.starts:
            await self._execution.undo(operation)
            return _CANCELLED
        work = asyncio.create_task(self._execution.perform(operation))
        cancelled = asyncio.create_task(run.cancel.wait())
        try:
            await asyncio.wait({work, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await _end(work)
                await self._execution.undo(operation)
                return _CANCELLED
            return work.result()
        except (NotOurs, asyncio.CancelledError):
            raise
        except Exception as error:
            if fault(error) is Fault.OUTAGE:
                raise
            log.exception("an operation failed", operation_id=str(operation.id))
            return self._unexpected(operation)
        finally:
            await _end(cancelled)
            await _end(work)

    def _unexpected(self, operation: Operation) -> Ending:
        """The end by an error of ours. A stop is tried again; a start is not."""
        starts = operation.kind.starts
        again = None if starts else self._execution.pause_after(operation.attempt)
        return Ending(state=State.FAILED, reason="internal", message=_INTERNAL, again_after=again)

    def _drop(self, ids: list[UUID]) -> None:
        """Stop working on operations that are not ours any more."""
        for operation_id in ids:
            run = self._runs.pop(operation_id, None)
            if run is not None and run.task is not None:
                run.task.cancel()

    async def _leave(self) -> None:
        """End what runs here without a word, and let others take it over at once."""
        left = list(self._runs.values())
        self._drop([run.operation.id for run in left])
        for run in left:
            assert run.task is not None
            await _end(run.task)
        with contextlib.suppress(Exception):
            await runs.release(self._pool, self._owner, [run.operation.id for run in left])
            self._wakeups.announce([OPERATIONS])


async def _end(task: asyncio.Task[object]) -> None:
    """Cancel a task and wait for it; its outcome is nobody's."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
