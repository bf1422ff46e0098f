"""Sends idle workspaces to sleep, and ends hibernations whose stop was lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from molecule_grpc.backends.operations.queue import Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.backends.operations.store import live
from molecule_grpc.backends.sweeps.paging import over_pages
from molecule_grpc.backends.sweeps.ports import LastMessages, SweepRows
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import Managed

log = structlog.get_logger(__name__)

NAME: Final = "hibernation-monitor"
_SOURCE: Final = "hibernate"


class HibernationSweep:
    """Hibernates whoever had no task, message or terminal for as long as its own setting says.

    Args:
        last_messages: when workspaces had their last task or message.
        stuck_after: seconds after which a hibernation without a stop is stopped again.
        can_start: whether a backend could wake them.
        announce: wakes the runners of operations, after a commit.
    """

    def __init__(
        self,
        pool: Pool,
        rows: SweepRows,
        last_messages: LastMessages,
        *,
        stuck_after: float,
        can_start: bool,
        announce: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._rows = rows
        self._last_messages = last_messages
        self._stuck_after = stuck_after
        self._can_start = can_start
        self._announce_runners = announce

    async def sweep(self) -> None:
        """Hibernate those that are idle now."""
        if self._can_start:
            await over_pages(NAME, self._rows.idle, lambda row: row[0].id, self._hibernate)

    async def restop(self) -> None:
        """Ask again for the stop of those that are about to hibernate for too long.

        The row is `hibernated` when that stop has ended. Where an operation is still at work the
        workspace is not stuck: the operation is tried until it succeeds.
        """
        await over_pages("stuck-hibernating", self._stuck, lambda row: row.id, self._stop_again)

    async def _hibernate(self, rows: Sequence[tuple[Managed, datetime]]) -> None:
        looked = [workspace.id for workspace, _ in rows]
        # The record knows of messages that touch no workspace's row.
        await self._rows.touch_active(await self._last_messages(looked))
        async with self._pool.acquire() as conn, conn.transaction():
            idle = await self._rows.hibernate_idle(conn, looked)
            await self._ask_to_stop(conn, idle)
        if idle:
            log.info("idle workspaces hibernate", count=len(idle))
            self._announce()

    async def _stuck(self, *, after: UUID, limit: int) -> list[Managed]:
        return await self._rows.stuck(self._stuck_after, after=after, limit=limit)

    async def _stop_again(self, rows: Sequence[Managed]) -> None:
        async with self._pool.acquire() as conn, conn.transaction():
            held = await self._rows.hold_all(conn, [row.id for row in rows])
            busy = await live.busy(conn, [each.id for each in held])
            left = [e for e in held if e.id not in busy and e.status == "hibernating"]
            await self._ask_to_stop(conn, left)
        if left:
            log.warning("hibernations without a stop were found", count=len(left))
            self._announce()

    async def _ask_to_stop(self, conn: Connection, workspaces: list[Managed]) -> None:
        wanted = [Wanted(e.id, e.organization_id, Kind.STOP, _SOURCE) for e in workspaces]
        await enqueue(conn, sorted(wanted, key=lambda each: each.workspace_id))

    def _announce(self) -> None:
        self._rows.announce()
        self._announce_runners()
