"""Agents whose environment has changed are started again with the new one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, Protocol
from uuid import UUID

from molecule_grpc.backends.operations.queue import Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import Managed

NAME: Final = "environment"
_STARTING: Final = "provisioning"


class RenewalRows(Protocol):
    """Rows of workspaces whose agents are restarted."""

    async def hold_all(self, conn: Connection, workspace_ids: Collection[UUID]) -> list[Managed]:
        """Lock those of these workspaces that are live."""
        ...

    async def auto_restart(
        self, conn: Connection, workspace_ids: Collection[UUID]
    ) -> list[Managed]:
        """To `provisioning`, where nobody has stopped the workspace on purpose."""
        ...

    @property
    def announce(self) -> Callable[[], None]:
        """Wakes the readers of the feed of events, after a commit."""
        ...


class Renewal:
    """Restarts agents with what has changed.

    Args:
        can_start: whether a backend starts workspaces here.
        announce: wakes the runners of operations, after a commit.
    """

    def __init__(self, rows: RenewalRows, announce: Callable[[], None], *, can_start: bool) -> None:
        self._rows = rows
        self._announce_runners = announce
        self.can_start = can_start

    async def environment_changed(self, conn: Connection, workspace_ids: Collection[UUID]) -> None:
        """Restart what runs of these workspaces, and what has failed.

        A start under way may have read the old environment: a restart follows it. Nobody wakes what
        hibernates or is paused: the next start reads the new environment anyway.
        """
        if not self.can_start or not workspace_ids:
            return
        held = await self._rows.hold_all(conn, workspace_ids)
        moved = {each.id for each in await self._rows.auto_restart(conn, workspace_ids)}
        await enqueue(
            conn,
            [
                Wanted(each.id, each.organization_id, Kind.RESTART, NAME)
                for each in held
                if each.id in moved or (each.status == _STARTING and not each.external)
            ],
        )

    def announce(self) -> None:
        """What was asked for is committed."""
        self._rows.announce()
        self._announce_runners()
