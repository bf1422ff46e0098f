"""What the slice needs of others: status moves of workspaces, and their secrets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import Managed


class StatusMoves(Protocol):
    """Moves of workspaces that backends and their users cause. Each answers which moved."""

    async def provision_failed(
        self,
        conn: Connection,
        workspace_ids: Collection[UUID],
        reason: str,
        missing: Sequence[str] = (),
    ) -> list[UUID]:
        """From `provisioning` to `failed`, with the reason, and variables that were missing."""
        ...

    async def lost(self, conn: Connection, workspace_ids: Collection[UUID]) -> list[UUID]:
        """From `online` or `degraded` to `offline`: nothing runs any more."""
        ...

    async def restarted(self, conn: Connection, workspace_ids: Collection[UUID]) -> list[UUID]:
        """To `provisioning`: the workload is started again."""
        ...


class Starter(Protocol):
    """Starts new workspaces."""

    @property
    def can_start(self) -> bool:
        """Whether there is a backend for them."""
        ...

    async def start(self, conn: Connection, workspace_id: UUID, organization_id: UUID) -> None:
        """Ask for the start of a workspace, in the transaction that creates it."""
        ...

    def announce(self) -> None:
        """Begin: the transaction is committed."""
        ...


class Workspaces(Protocol):
    """The slice of workspaces: status moves, timeouts, and subscriptions."""

    @property
    def moves(self) -> StatusMoves: ...

    def provision_seconds(self, conn: Connection, workspace_id: UUID, /) -> Awaitable[int]:
        """How long a workspace may take until it registers; 0 for a workspace that was removed."""
        ...

    def starts_by(self, starter: Starter) -> None:
        """Name whoever starts new workspaces."""
        ...

    def on_remove(self, subscriber: Callable[[Connection, list[UUID]], Awaitable[None]]) -> None:
        """Call in the transaction that removes workspaces."""
        ...

    def on_removed(self, subscriber: Callable[[Sequence[UUID]], None]) -> None:
        """Call after the commit of a removal."""
        ...


class DeathRows(Protocol):
    """Rows of workspaces whose workload may have ended."""

    async def hold_all(self, conn: Connection, workspace_ids: Collection[UUID]) -> list[Managed]:
        """Lock those of these workspaces that are live."""
        ...

    async def die(self, conn: Connection, workspace: Managed, reason: str) -> bool:
        """To `offline`. False where the row has another workload, or another status, by now."""
        ...

    @property
    def announce(self) -> Callable[[], None]:
        """Wakes the readers of the feed of events, after a commit."""
        ...


class Secrets(Protocol):
    """What workspaces are started with."""

    async def values(self, workspace_id: UUID) -> Mapping[str, str]:
        """Variables of a workspace, inherited ones too. Raises `Conflict`: one is unreadable."""
        ...


class StartFiles(Protocol):
    """What agents find below /configs when their workspaces are first started."""

    async def of_start(self, workspace_id: UUID, kept_by: str) -> Mapping[str, bytes]:
        """By path below /configs, what the volume that `kept_by` keeps has not got yet."""
        ...

    async def delivered(
        self, conn: Connection, workspace_id: UUID, backend: str, read_after: datetime
    ) -> None:
        """A start that read the files after that time has succeeded."""
        ...
