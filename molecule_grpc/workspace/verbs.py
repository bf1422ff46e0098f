"""What the workspace slice offers to those who start and stop workloads: rows, and their moves.

Every method that takes a connection belongs into a transaction of the caller, who asks for the
operation there as well. After the commit the caller calls `announce`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from uuid import UUID

from molecule_grpc.db import tree_lock
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import Managed
from molecule_grpc.workspace import status
from molecule_grpc.workspace.refusals import missing
from molecule_grpc.workspace.store import supervised, verbs
from molecule_grpc.workspace.store.supervised import Late, ProvisionTimeouts

# Rows of one statement.
_BATCH = 200


class WorkspaceVerbs:
    """The moves of verbs and of sweeps over workloads.

    Args:
        tell_readers: wakes the readers of the feed of events.
    """

    def __init__(
        self, pool: Pool, timeouts: ProvisionTimeouts, tell_readers: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._timeouts = timeouts
        self.announce = tell_readers

    async def hold(self, conn: Connection, workspace_id: UUID, within: UUID | None) -> Managed:
        """Lock a live workspace, and the shape of its tree.

        Args:
            within: the only organisation that the workspace may be of; None for any.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        await tree_lock.share_of(conn, workspace_id)
        found = await verbs.hold(conn, workspace_id, within)
        if found is None:
            raise missing()
        return found

    async def hold_all(self, conn: Connection, workspace_ids: Collection[UUID]) -> list[Managed]:
        """Lock those of these workspaces that are live."""
        return await verbs.hold_all(conn, workspace_ids)

    async def look(self, workspace_id: UUID) -> Managed | None:
        """A live workspace, without a lock."""
        return await verbs.look(self._pool, workspace_id)

    async def paused_above(self, conn: Connection, workspace_id: UUID) -> str | None:
        """The name of the nearest paused ancestor; None when none is."""
        return await verbs.paused_above(conn, workspace_id)

    async def restart(self, conn: Connection, held: Managed) -> None:
        """The restart of a held workspace that is not external, from any status."""
        if not await verbs.move(conn, status.RESTARTED, [held.id]):
            await verbs.begin_again(conn, held.id)

    async def auto_restart(
        self, conn: Connection, workspace_ids: Collection[UUID]
    ) -> list[Managed]:
        """Restarts that nobody has asked for: not below a paused ancestor. Returns whom."""
        return await verbs.move(conn, status.AUTO_RESTARTED, workspace_ids)

    async def wake(self, conn: Connection, workspace_ids: Collection[UUID]) -> list[Managed]:
        """Wake those that hibernate, not below a paused ancestor. Returns whom."""
        return await verbs.move(conn, status.WOKEN, workspace_ids)

    async def pause(self, conn: Connection, workspace_id: UUID) -> list[Managed]:
        """Pause a held workspace and everything live below it. Returns what was not paused yet."""
        return [
            each
            for batch in _batches(await verbs.subtree(conn, workspace_id))
            for each in await verbs.pause(conn, batch)
        ]

    async def resume(self, conn: Connection, workspace_id: UUID) -> list[Managed]:
        """Resume a held workspace and everything paused below it. Returns what was paused."""
        return [
            each
            for batch in _batches(await verbs.subtree(conn, workspace_id))
            for move in (status.RESUMED, status.RESUMED_EXTERNAL)
            for each in await verbs.move(conn, move, batch)
        ]

    async def hibernate(self, conn: Connection, workspace_id: UUID, *, force: bool) -> bool:
        """Claim a workspace for hibernation. False where it is away, or has tasks without force."""
        return bool(await verbs.hibernate(conn, [workspace_id], force=force))

    async def hibernate_idle(
        self, conn: Connection, workspace_ids: Collection[UUID]
    ) -> list[Managed]:
        """Claim those that are still idle by the row. Returns whom."""
        return await verbs.hibernate_idle(conn, workspace_ids)

    async def stopped(self, conn: Connection, workspace_id: UUID) -> bool:
        """The stop of a hibernation has succeeded."""
        return bool(await verbs.move(conn, status.STOPPED, [workspace_id]))

    async def die(self, conn: Connection, workspace: Managed, reason: str) -> bool:
        """The workload ended: offline. False where the row has moved on."""
        return await supervised.die(conn, workspace, reason)

    async def crash(self, conn: Connection, workspace_id: UUID, reason: str) -> bool:
        """The workload ended too often: failed. False where the row has moved on."""
        return await supervised.crash(conn, workspace_id, reason)

    async def fail_late(
        self, conn: Connection, workspace_id: UUID, reason: str, seconds: int
    ) -> bool:
        """The agent did not register in time: failed. False where it did meanwhile."""
        return await supervised.fail_late(conn, workspace_id, reason, seconds)

    async def touch_active(self, seen: Sequence[tuple[UUID, datetime]]) -> None:
        """Note when workspaces were last active, where that is later than what is known."""
        await verbs.touch_active(self._pool, seen)

    async def take_context(self, workspace_id: UUID) -> str | None:
        """What a restarted agent is to be told, as JSON text; it is told once."""
        return await verbs.take_context(self._pool, workspace_id)

    async def running(self, *, after: UUID, limit: int) -> list[Managed]:
        """Workspaces whose workload should run now, in id order behind `after`."""
        return await supervised.running(self._pool, after=after, limit=limit)

    async def running_in(self, within: UUID | None, *, after: UUID, limit: int) -> list[Managed]:
        """The same within one organisation; None for any."""
        return await supervised.running_in(self._pool, within, after=after, limit=limit)

    async def offline(self, *, after: UUID, limit: int) -> list[Managed]:
        """Workspaces that are offline and not below a paused ancestor, behind an id."""
        return await supervised.offline(self._pool, after=after, limit=limit)

    async def late(self, *, after: UUID, limit: int) -> list[Late]:
        """Workspaces that are being started for too long, behind an id."""
        return await supervised.late(self._pool, self._timeouts, after=after, limit=limit)

    async def idle(self, *, after: UUID, limit: int) -> list[tuple[Managed, datetime]]:
        """Workspaces that look idle by their rows, and since when, behind an id."""
        return await supervised.idle(self._pool, after=after, limit=limit)

    async def stuck(self, seconds: float, *, after: UUID, limit: int) -> list[Managed]:
        """Workspaces that are about to hibernate for longer than that, behind an id."""
        return await supervised.stuck(self._pool, seconds, after=after, limit=limit)


def _batches(workspace_ids: list[UUID]) -> list[list[UUID]]:
    return [workspace_ids[n : n + _BATCH] for n in range(0, len(workspace_ids), _BATCH)]
