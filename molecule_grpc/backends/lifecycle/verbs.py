"""The verbs by which people start and stop workspaces.

Each is one transaction: the moves with their events, and the operations that carry them out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.backends.lifecycle import refusals
from molecule_grpc.backends.lifecycle.ports import VerbRows
from molecule_grpc.backends.operations.queue import Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind, Options
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.db.wakeups import Flag, Wakeups
from molecule_grpc.directory import ASLEEP, Managed
from molecule_grpc.events.store import CHANNEL_ALL

_PAUSED: Final = "paused"
_PLAIN: Final = Options()
_CAN_HIBERNATE: Final = frozenset({"online", "degraded"})
_BATCH: Final = 200
# A call that hibernates waits so long for the stop, and looks at least so often.
_STOP_WAIT_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.5
_PACE_SECONDS: Final = 0.02


class Resumed(NamedTuple):
    """How many workspaces were resumed, and the status of the one that was named."""

    resumed: int
    status: str


class Verbs:
    """Restart, pause, resume, hibernate and wake.

    `within` is the only organisation that the workspace may be of; None for any. Every verb raises
    `NotFound` with WORKSPACE_NOT_FOUND for a workspace that the caller may not see.

    Args:
        can_start: whether a backend starts workspaces here.
        announce: wakes the runners of operations, after a commit.
    """

    def __init__(
        self,
        pool: Pool,
        rows: VerbRows,
        wakeups: Wakeups,
        *,
        can_start: bool,
        announce: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._rows = rows
        self._wakeups = wakeups
        self._can_start = can_start
        self._announce_runners = announce

    async def restart(self, workspace_id: UUID, within: UUID | None, options: Options) -> None:
        """Stop and start again, from any status.

        Raises:
            Aborted: WORKSPACE_PAUSED: an ancestor is paused.
            Conflict: RUNTIME_EXTERNAL.
            Unavailable: NO_BACKEND.
        """
        async with self._pool.acquire() as conn, conn.transaction():
            held = await self._rows.hold(conn, workspace_id, within)
            await self._require_startable(conn, held)
            await self._rows.restart(conn, held)
            await enqueue(conn, [_wanted(held, Kind.RESTART, "restart", options)])
        self._announce()

    async def pause(self, workspace_id: UUID, within: UUID | None) -> int:
        """Pause with everything below, and stop what runs; how many were paused.

        Raises:
            NotFound: it is paused already.
        """
        async with self._pool.acquire() as conn, conn.transaction():
            held = await self._rows.hold(conn, workspace_id, within)
            if held.status == _PAUSED:
                raise refusals.not_so("already paused")
            paused = await self._rows.pause(conn, workspace_id)
            ours = [each for each in paused if each.backend or self._can_start]
            await self._ask(conn, ours, Kind.STOP, "pause")
        self._announce()
        return len(paused)

    async def resume(self, workspace_id: UUID, within: UUID | None) -> Resumed:
        """Resume with everything paused below, and start them.

        Raises:
            NotFound: it is not paused.
            Aborted: WORKSPACE_PAUSED: an ancestor is paused, too.
            Unavailable: NO_BACKEND.
        """
        async with self._pool.acquire() as conn, conn.transaction():
            held = await self._rows.hold(conn, workspace_id, within)
            if held.status != _PAUSED:
                raise refusals.not_so("not paused")
            await self._require_resumed_above(conn, held)
            if not (held.external or self._can_start):
                raise refusals.no_backend()
            resumed = await self._rows.resume(conn, workspace_id)
            await self._ask(conn, resumed, Kind.START, "resume")
        self._announce()
        [own] = [each for each in resumed if each.id == workspace_id]
        return Resumed(len(resumed), own.status)

    async def hibernate(self, workspace_id: UUID, within: UUID | None, *, force: bool) -> str:
        """Stop until something is to be done; the status after at most five seconds.

        Raises:
            NotFound: it is neither online nor degraded.
            Aborted: TASKS_RUNNING: the agent has tasks, and `force` is not set.
            Conflict: RUNTIME_EXTERNAL.
            Unavailable: NO_BACKEND: nothing could wake it.
        """
        async with self._pool.acquire() as conn, conn.transaction():
            held = await self._rows.hold(conn, workspace_id, within)
            self._require_managed(held)
            if held.status not in _CAN_HIBERNATE:
                raise refusals.not_so("not online")
            if not await self._rows.hibernate(conn, workspace_id, force=force):
                raise refusals.tasks_running(held.active_tasks)
            await self._ask(conn, [held], Kind.STOP, "hibernate")
        with self._wakeups.watch(CHANNEL_ALL) as flag:
            self._announce()
            return await self._after_stop(workspace_id, flag)

    async def wake(self, workspace_id: UUID, within: UUID | None) -> None:
        """Start a hibernated workspace.

        Raises:
            NotFound: it does not hibernate.
            Aborted: WORKSPACE_PAUSED: an ancestor is paused.
            Conflict: RUNTIME_EXTERNAL.
            Unavailable: NO_BACKEND.
        """
        async with self._pool.acquire() as conn, conn.transaction():
            held = await self._rows.hold(conn, workspace_id, within)
            if held.status not in ASLEEP and not held.external:
                raise refusals.not_so("not hibernated")
            await self._require_startable(conn, held)
            woken = await self._rows.wake(conn, [workspace_id])
            await self._ask(conn, woken, Kind.START, "wake")
        self._announce()

    async def _after_stop(self, workspace_id: UUID, flag: Flag) -> str:
        """The status once it is no longer `hibernating`, or after five seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _STOP_WAIT_SECONDS
        while True:
            flag.clear()
            found = await self._rows.look(workspace_id)
            status = "removed" if found is None else found.status
            left = end - loop.time()
            if status != "hibernating" or left <= 0:
                return status
            await flag.wait(min(left, _LOOK_SECONDS))
            # Every event of the installation raises the flag.
            await asyncio.sleep(_PACE_SECONDS)

    async def _require_startable(self, conn: Connection, held: Managed) -> None:
        await self._require_resumed_above(conn, held)
        self._require_managed(held)

    async def _require_resumed_above(self, conn: Connection, held: Managed) -> None:
        parent = await self._rows.paused_above(conn, held.id)
        if parent is not None:
            raise refusals.paused_above(parent)

    def _require_managed(self, held: Managed) -> None:
        if held.external:
            raise refusals.external(held.id)
        if not self._can_start:
            raise refusals.no_backend()

    async def _ask(
        self, conn: Connection, workspaces: Sequence[Managed], kind: Kind, source: str
    ) -> None:
        """Ask for an operation of each that is not external, in bounded statements."""
        wanted = sorted(
            (_wanted(each, kind, source) for each in workspaces if not each.external),
            key=lambda each: each.workspace_id,
        )
        for start in range(0, len(wanted), _BATCH):
            await enqueue(conn, wanted[start : start + _BATCH])

    def _announce(self) -> None:
        self._rows.announce()
        self._announce_runners()


def _wanted(each: Managed, kind: Kind, source: str, options: Options = _PLAIN) -> Wanted:
    return Wanted(each.id, each.organization_id, kind, source, options)
