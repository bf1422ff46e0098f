"""Ports of the sweeps: to the slice of workspaces, and to the slice of messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import Managed


class Late(Protocol):
    """A workspace whose agent did not register within `seconds`."""

    @property
    def workspace(self) -> Managed: ...
    @property
    def seconds(self) -> int: ...


class SweepRows(Protocol):
    """Rows that look as if something has to be done, and their moves.

    Rows come in the order of their ids, behind `after`.
    """

    async def running(self, *, after: UUID, limit: int) -> list[Managed]:
        """Those whose workload should run."""
        ...

    async def offline(self, *, after: UUID, limit: int) -> list[Managed]:
        """Those that are offline and not below a paused ancestor."""
        ...

    async def late(self, *, after: UUID, limit: int) -> Sequence[Late]:
        """Those that are being started for too long."""
        ...

    async def idle(self, *, after: UUID, limit: int) -> list[tuple[Managed, datetime]]:
        """Those that look idle by their rows, and since when."""
        ...

    async def stuck(self, seconds: float, *, after: UUID, limit: int) -> list[Managed]:
        """Those that are about to hibernate for longer than that."""
        ...

    async def hold_all(self, conn: Connection, workspace_ids: Collection[UUID]) -> list[Managed]:
        """Lock those of these workspaces that are live."""
        ...

    async def auto_restart(
        self, conn: Connection, workspace_ids: Collection[UUID]
    ) -> list[Managed]:
        """To `provisioning`, where nobody has stopped the workspace on purpose."""
        ...

    async def crash(self, conn: Connection, workspace_id: UUID, reason: str) -> bool:
        """To `failed`: the workload ended too often."""
        ...

    async def fail_late(
        self, conn: Connection, workspace_id: UUID, reason: str, seconds: int
    ) -> bool:
        """To `failed`: the agent did not register in time."""
        ...

    async def hibernate_idle(
        self, conn: Connection, workspace_ids: Collection[UUID]
    ) -> list[Managed]:
        """To `hibernating`, where the row still says idle."""
        ...

    async def touch_active(self, seen: Sequence[tuple[UUID, datetime]]) -> None:
        """Note when workspaces were last active."""
        ...

    @property
    def announce(self) -> Callable[[], None]:
        """Wakes the readers of the feed of events, after a commit."""
        ...


# Tells when workspaces had their last task or message; now, where one is open.
LastMessages: TypeAlias = Callable[[Sequence[UUID]], Awaitable[list[tuple[UUID, datetime]]]]
