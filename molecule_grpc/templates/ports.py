"""What the slice needs of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias
from uuid import UUID

from molecule_grpc.auth.principal import Principal
from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import Imported, ImportedNode, InitialMemory, TemplateSchedule

# Stores more with a new workspace, in its transaction: ids of its organisation and of itself.
Also: TypeAlias = Callable[[Connection, UUID, UUID], Awaitable[None]]
# Names and reasons of those that are left out.
PutSchedules: TypeAlias = Callable[
    [Connection, UUID, Sequence[TemplateSchedule]], Awaitable[list[tuple[str, str]]]
]


class Workspaces(Protocol):
    """Finds and adds workspaces."""

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

    async def remember(self, workspace_id: UUID, memories: Sequence[InitialMemory]) -> None:
        """Store what a new workspace shall know."""
        ...


class Configuration(Protocol):
    """What a new workspace is first started with."""

    @property
    def runtime(self) -> str: ...
    @property
    def model(self) -> str: ...
    async def store(self, conn: Connection, organization_id: UUID, workspace_id: UUID) -> None:
        """Keep its files, in the transaction that creates the workspace."""
        ...


class Configurer(Protocol):
    """Configures new workspaces that are not external."""

    async def configure(
        self, *, name: str, role: str, tier: int, runtime: str, model: str, template: str
    ) -> Configuration:
        """The configuration of a workspace. Raises `Invalid`."""
        ...


class WorkspaceSlice(Protocol):
    """The slice of workspaces: imports, and who configures new workspaces."""

    @property
    def imports(self) -> Workspaces: ...
    @property
    def configures_by(self) -> Callable[[Configurer], None]:
        """Names whoever configures new workspaces."""
        ...


class Secrets(Protocol):
    """Secrets that workspaces inherit."""

    async def shared_names(self, organization_id: UUID) -> frozenset[str]:
        """Names of what all workspaces of an organisation inherit. Raises `Unavailable`."""
        ...
