"""Starts workspaces again that are offline: their workload ended, or their agent fell silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import structlog

from molecule_grpc.backends.operations.queue import Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.backends.operations.store import live
from molecule_grpc.backends.sweeps.paging import over_pages
from molecule_grpc.backends.sweeps.ports import SweepRows
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import Managed

log = structlog.get_logger(__name__)

NAME: Final = "auto-restart"
WITHIN_SECONDS: Final = 600.0
_LONGEST_PAUSE_SECONDS: Final = 60.0


class Limits(NamedTuple):
    """How often an agent is started again.

    Args:
        deaths: an agent that was away so often within ten minutes is not started again.
        backoff: seconds before the second restart; doubled up to a minute.
    """

    deaths: int
    backoff: float

    def pause(self, earlier: int) -> float:
        """Seconds to wait after so many earlier restarts."""
        if not earlier:
            return 0.0
        return float(min(self.backoff * 2.0 ** min(earlier - 1, 10), _LONGEST_PAUSE_SECONDS))


class RestartSweep:
    """Restarts what is offline, and gives up on what is so too often.

    Args:
        announce: wakes the runners of operations, after a commit.
        sources: further sources of operations that count as restarts after a death.
    """

    def __init__(
        self,
        pool: Pool,
        rows: SweepRows,
        limits: Limits,
        announce: Callable[[], None],
        sources: tuple[str, ...] = (),
    ) -> None:
        self._pool = pool
        self._rows = rows
        self._limits = limits
        self._announce_runners = announce
        self._sources = (NAME, *sources)

    async def sweep(self) -> None:
        """Restart those that are offline now."""
        await over_pages(NAME, self._rows.offline, lambda row: row.id, self._page)

    async def _page(self, workspaces: Sequence[Managed]) -> None:
        async with self._pool.acquire() as conn, conn.transaction():
            ids = [each.id for each in await self._rows.hold_all(conn, [w.id for w in workspaces])]
            free = set(ids) - await live.busy(conn, ids)
            counts = await live.recent_starts(conn, free, self._sources, WITHIN_SECONDS)
            spent = {each for each in free if counts.get(each, 0) + 1 >= self._limits.deaths}
            restarted = await self._rows.auto_restart(conn, sorted(free - spent))
            wanted = [
                Wanted(
                    each.id,
                    each.organization_id,
                    Kind.RESTART,
                    NAME,
                    delay=self._limits.pause(counts.get(each.id, 0)),
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
        reason = (
            f"the agent ended {self._limits.deaths} times within"
            f" {WITHIN_SECONDS / 60:.0f} minutes and is not started again"
        )
        stops = []
        for each in workspaces:
            if await self._rows.crash(conn, each.id, reason):
                log.warning("an agent ends again and again", workspace_id=str(each.id))
                stops.append(Wanted(each.id, each.organization_id, Kind.STOP, NAME))
        return stops
