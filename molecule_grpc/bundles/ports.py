"""What the slice needs of others: workspaces, their files, and their secrets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias
from uuid import UUID

from molecule_grpc.auth.principal import Principal
from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import Imported, ImportedNode

# Stores more with a new workspace, in its transaction: ids of its organisation and of itself.
Also: TypeAlias = Callable[[Connection, UUID, UUID], Awaitable[None]]


class Workspaces(Protocol):
    """Adds workspaces."""

    async def home(self, principal: Principal, wanted: UUID | None) -> UUID:
        """The organisation that a caller imports into. Raises `NotFound`."""
        ...

    async def find(
        self, organization_id: UUID, parent_id: UUID | None, name: str
    ) -> Imported | None:
        """The live workspace of that name below a parent. Raises `Unavailable`."""
        ...

    async def find_or_create(
        self, principal: Principal, node: ImportedNode, also: Also
    ) -> Imported:
        """The workspace of a node, created where there is none."""
        ...


class StartFiles(Protocol):
    """What agents find below /configs when they are first started."""

    async def put(
        self,
        conn: Connection,
        organization_id: UUID,
        workspace_id: UUID,
        files: Mapping[str, bytes],
    ) -> None:
        """Keep files, by path below /configs. Raises `Exhausted`."""
        ...

    async def of_start(self, workspace_id: UUID, kept_by: str) -> Mapping[str, bytes]:
        """All that is kept, with an empty `kept_by`."""
        ...


class LiveFiles(Protocol):
    """What lies below /configs of agents that run, or ran."""

    async def copy(
        self, workspace_id: UUID, *, files: int, size: int
    ) -> Mapping[str, bytes | None] | None:
        """Files by path. In place of the bytes of a file that is too large stands None.

        Returns None where the platform can read no files: start files hold then.

        Args:
            files: most files.
            size: most bytes of all together.
        """
        ...


class Secrets(Protocol):
    """What agents are started with, and no bundle may hold."""

    async def values(self, workspace_id: UUID) -> Mapping[str, str]:
        """Variables of a workspace, inherited ones too. Raises `Conflict`: one is unreadable."""
        ...
