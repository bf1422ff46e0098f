"""Workloads as senders of messages see them: who sleeps is woken, who is dead is started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import structlog

from molecule_grpc.backends.deaths import Deaths
from molecule_grpc.backends.lifecycle.ports import VerbRows
from molecule_grpc.backends.operations.queue import Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.db.pool import Pool

log = structlog.get_logger(__name__)


class Waking:
    """Wakes workspaces for which something came.

    Args:
        deaths: looks whether a workload still runs.
        can_start: whether a backend starts workspaces here.
        announce: wakes the runners of operations, after a commit.
    """

    def __init__(
        self,
        pool: Pool,
        rows: VerbRows,
        deaths: Deaths,
        *,
        can_start: bool,
        announce: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._rows = rows
        self._deaths = deaths
        self._can_start = can_start
        self._announce_runners = announce
        self._under_way: dict[UUID, asyncio.Future[None]] = {}

    async def wake(self, workspace_id: UUID) -> None:
        """Begin to start a hibernated workload; the start is committed when this returns.

        Callers that come meanwhile share one transaction: a thousand messages wake once.
        """
        if not self._can_start:
            return
        task = self._under_way.get(workspace_id)
        if task is None:
            task = asyncio.ensure_future(self._wake(workspace_id))
            self._under_way[workspace_id] = task
            task.add_done_callback(lambda _: self._under_way.pop(workspace_id, None))
        # A caller that is cancelled must not cancel the waking that other callers wait for.
        await asyncio.shield(task)

    async def is_dead(self, workspace_id: UUID) -> bool:
        """Whether a workload certainly does not run. Such a workspace is restarted."""
        found = await self._rows.look(workspace_id)
        return found is not None and await self._deaths.examine(found)

    async def _wake(self, workspace_id: UUID) -> None:
        async with self._pool.acquire() as conn, conn.transaction():
            woken = await self._rows.wake(conn, [workspace_id])
            await enqueue(
                conn,
                [Wanted(each.id, each.organization_id, Kind.START, "wake") for each in woken],
            )
        if woken:
            log.info("a message wakes a workspace", workspace_id=str(workspace_id))
            self._rows.announce()
            self._announce_runners()
