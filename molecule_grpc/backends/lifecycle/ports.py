"""Ports of the verbs: to the slice of workspaces, and to the slice of messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol, TypeAlias
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import Managed


class VerbRows(Protocol):
    """Rows of workspaces, and the moves of verbs. Connections are in the caller's transaction."""

    async def hold(self, conn: Connection, workspace_id: UUID, within: UUID | None) -> Managed:
        """Lock a live workspace, and the shape of its tree. Raises `NotFound`."""
        ...

    async def hold_all(self, conn: Connection, workspace_ids: Collection[UUID]) -> list[Managed]:
        """Lock those of these workspaces that are live."""
        ...

    async def look(self, workspace_id: UUID) -> Managed | None:
        """A live workspace, without a lock."""
        ...

    async def paused_above(self, conn: Connection, workspace_id: UUID) -> str | None:
        """The name of the nearest paused ancestor."""
        ...

    async def restart(self, conn: Connection, held: Managed) -> None:
        """To `provisioning`, from any status."""
        ...

    async def auto_restart(
        self, conn: Connection, workspace_ids: Collection[UUID]
    ) -> list[Managed]:
        """To `provisioning`, where nobody has stopped the workspace on purpose."""
        ...

    async def wake(self, conn: Connection, workspace_ids: Collection[UUID]) -> list[Managed]:
        """To `provisioning`, from a hibernation."""
        ...

    async def pause(self, conn: Connection, workspace_id: UUID) -> list[Managed]:
        """To `paused`, with everything below."""
        ...

    async def resume(self, conn: Connection, workspace_id: UUID) -> list[Managed]:
        """To `provisioning`, or `awaiting_agent`, with everything paused below."""
        ...

    async def hibernate(self, conn: Connection, workspace_id: UUID, *, force: bool) -> bool:
        """To `hibernating`."""
        ...

    async def hibernate_idle(
        self, conn: Connection, workspace_ids: Collection[UUID]
    ) -> list[Managed]:
        """To `hibernating`, where the row still says idle."""
        ...

    async def stopped(self, conn: Connection, workspace_id: UUID) -> bool:
        """From `hibernating` to `hibernated`."""
        ...

    async def take_context(self, workspace_id: UUID) -> str | None:
        """What a restarted agent is to be told, as JSON text; told once."""
        ...

    @property
    def announce(self) -> Callable[[], None]:
        """Wakes the readers of the feed of events, after a commit."""
        ...


# Puts a text of the platform where an agent finds it, and waits for no answer.
LeaveMessage: TypeAlias = Callable[[UUID, str], Awaitable[None]]
# Tells which variables a workspace's agent is started with: names, never values.
EnvironmentNames: TypeAlias = Callable[[UUID], Awaitable[list[str]]]
