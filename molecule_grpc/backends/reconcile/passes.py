"""Comparing engines with rows, in both directions; every worker does it.

What is on the engine and expected by no row is noted, then stopped; the note makes it be counted
and stopped once. What a row expects and the engine lacks is started again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from molecule_grpc.backends import metrics
from molecule_grpc.backends.contract.backend import LIST_SECONDS, Backend
from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.names import BackendName, Capability
from molecule_grpc.backends.contract.workloads import Absent, Owned, Resource, Unknown
from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.backends.healing import heal
from molecule_grpc.backends.ports import StatusMoves
from molecule_grpc.backends.reconcile.rules import absent, orphans
from molecule_grpc.backends.reconcile.store import comparing as store
from molecule_grpc.backends.reconcile.store.comparing import Leftover
from molecule_grpc.backends.restart_limits import RestartLimits
from molecule_grpc.db.pool import Pool
from molecule_grpc.events.names import EventType

log = structlog.get_logger(__name__)

_BATCH: Final = 500
_LEFTOVERS: Final = 20
# A backend that does not say what an operation made is asked so often, for an hour and a half.
_MOST_LOOKS: Final = 20
_BEFORE_ALL: Final = UUID(int=0)


class Reconcile:
    """The passes.

    Args:
        moves: status moves of workspaces.
        limits: of restarts after a loss.
        announce: wakes the runners, and the readers of the feed of events.
    """

    def __init__(
        self,
        pool: Pool,
        dispatch: Dispatch,
        moves: StatusMoves,
        limits: RestartLimits,
        announce: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._dispatch = dispatch
        self._moves = moves
        self._limits = limits
        self._announce = announce

    async def compare(self) -> None:
        """Compare every backend that lists its workloads. A backend that fails is skipped."""
        for backend in self._dispatch.opened:
            if Capability.LIST not in backend.capabilities:
                continue
            asked = await store.now(self._pool)
            try:
                owned = await backend.list_owned(deadline=LIST_SECONDS)
            except BackendFailure as failed:
                log.warning("a backend was not compared", backend=backend.name, why=str(failed))
                continue
            await self._note_orphans(backend, owned)
            await self._note_addresses(backend, owned)
            await self._heal(backend.name, await self._lost(backend, owned), asked)
        await self.remove_leftovers()

    async def remove_leftovers(self) -> None:
        """Stop what is noted, some at a time."""
        for each in await store.take_leftovers(self._pool, _LEFTOVERS):
            try:
                await self._remove(each)
            except BackendFailure as failed:
                log.warning("an orphan was not removed", why=str(failed), **_named(each))
                if not each.resource_id and each.attempts >= _MOST_LOOKS:
                    log.error("LEAK-SUSPECT", **_named(each))  # noqa: TRY400  (told above)
                    await store.removed(self._pool, each)
            else:
                await store.removed(self._pool, each)
        await store.forget_removed(self._pool)

    async def _remove(self, each: Leftover) -> None:
        resource_id = each.resource_id or await self._made_by(each)
        if resource_id:
            resource = Resource(workspace_id=each.workspace_id, resource_id=resource_id)
            await self._dispatch.stop(each.backend, resource, exactly=True)
        if each.with_volumes:
            await self._dispatch.remove_volumes(each.backend, each.workspace_id)

    async def _made_by(self, each: Leftover) -> str:
        """The resource id of an operation's leftover; empty for the workload that the row expects.

        Raises:
            BackendFailure: the engine does not say.
        """
        if each.operation_id is None:
            return ""
        made = Resource(workspace_id=each.workspace_id, operation_id=each.operation_id)
        found = await self._dispatch.status(each.backend, made)
        if isinstance(found, Unknown):
            raise BackendFailure(
                FailureReason.ENGINE, "the backend does not say", detail=found.detail
            )
        if isinstance(found, Absent) or await store.expects(self._pool, each, found.resource_id):
            return ""
        return found.resource_id

    async def measure(self) -> None:
        """Count how long workspaces took that are online now."""
        for backend, seconds in await store.came_online(
            self._pool, EventType.WORKSPACE_ONLINE, _BATCH
        ):
            if seconds is not None and backend:
                metrics.ONLINE[BackendName(backend)].observe(seconds)

    async def _note_orphans(self, backend: Backend, owned: list[Owned]) -> None:
        for start in range(0, len(owned), _BATCH):
            some = owned[start : start + _BATCH]
            rows = await store.expected(self._pool, [each.workspace_id for each in some])
            if found := orphans(backend.name, some, rows):
                new = await store.leave(self._pool, backend.name, found)
                metrics.ORPHANS[backend.name].inc(new)
                log.warning("orphans were found", backend=backend.name, count=new)

    async def _note_addresses(self, backend: Backend, owned: list[Owned]) -> None:
        """An engine that starts an agent again by itself may give it another address."""
        told = [each for each in owned if each.running and each.url]
        for start in range(0, len(told), _BATCH):
            some = told[start : start + _BATCH]
            if moved := await store.note_addresses(self._pool, backend.name, some):
                log.info("agents are called elsewhere now", backend=backend.name, count=moved)

    async def _lost(self, backend: Backend, owned: list[Owned]) -> list[tuple[UUID, str]]:
        found: list[tuple[UUID, str]] = []
        last = _BEFORE_ALL
        while rows := await store.running(self._pool, backend.name, last, _BATCH):
            found += [(each, rows[each]) for each in absent(rows, owned)]
            last = max(rows)
        return found

    async def _heal(
        self, backend: BackendName, lost: list[tuple[UUID, str]], asked: datetime
    ) -> None:
        for start in range(0, len(lost), _BATCH):
            async with self._pool.acquire() as conn, conn.transaction():
                some = lost[start : start + _BATCH]
                held = await store.hold_lost(conn, backend, some, asked)
                healed = await heal(conn, self._moves, held, self._limits)
            if healed:
                metrics.DRIFT_HEALED[backend].inc(len(healed))
                log.warning("workloads were gone", backend=backend, count=len(healed))
                self._announce()


def _named(each: Leftover) -> dict[str, str]:
    return {
        "backend": each.backend,
        "resource_id": each.resource_id,
        "workspace_id": str(each.workspace_id),
        "operation_id": str(each.operation_id or ""),
    }
