"""Starts workspaces again that are offline: their workload ended, or their agent fell silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from molecule_grpc.backends.operations.queue import Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.backends.operations.store import live
from molecule_grpc.backends.restart_limits import (
    AUTO_RESTART,
    WITHIN,
    RestartLimits,
    earlier_restarts,
)
from molecule_grpc.backends.sweeps.paging import over_pages
from molecule_grpc.backends.sweeps.ports import SweepRows
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import Managed

log = structlog.get_logger(__name__)


class RestartSweep:
    """Restarts what is offline, and gives up on what is so too often.

    Args:
        announce: wakes the runners of operations, after a commit.
    """

    def __init__(
        self,
        pool: Pool,
        rows: SweepRows,
        limits: RestartLimits,
        announce: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._rows = rows
        self._limits = limits
        self._announce_runners = announce

    async def sweep(self) -> None:
        """Restart those that are offline now."""
        await over_pages(AUTO_RESTART, self._rows.offline, lambda row: row.id, self._page)

    async def _page(self, workspaces: Sequence[Managed]) -> None:
        async with self._pool.acquire() as conn, conn.transaction():
            ids = [each.id for each in await self._rows.hold_all(conn, [w.id for w in workspaces])]
            free = set(ids) - await live.busy(conn, ids)
            earlier = await earlier_restarts(conn, free)
            spent = {each for each in free if self._limits.spent(earlier.get(each, 0))}
            restarted = await self._rows.auto_restart(conn, sorted(free - spent))
            wanted = [
                Wanted(
                    each.id,
                    each.organization_id,
                    Kind.RESTART,
                    AUTO_RESTART,
                    delay=self._limits.pause(earlier.get(each.id, 0)),
                )
                for each in restarted
            ]
            given_up = [each for each in workspaces if each.id in spent]
            wanted += await self._give_up(conn, given_up)
            await enqueue(conn, sorted(wanted, key=lambda each: each.workspace_id))
        if wanted:
            self._rows.announce()
            self._announce_runners()

    async def _give_up(self, conn: Connection, workspaces: list[Managed]) -> list[Wanted]:
        """Fail workspaces for good, and stop what may be left of them."""
        reason = f"the agent ended {self._limits.deaths} times {WITHIN} and is not started again"
        stops = []
        for each in workspaces:
            if await self._rows.crash(conn, each.id, reason):
                log.warning("an agent ends again and again", workspace_id=str(each.id))
                stops.append(Wanted(each.id, each.organization_id, Kind.STOP, AUTO_RESTART))
        return stops
