"""What the slice needs of others."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import InitialMemory
from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.memory.search_values import Explained, Found, Query
from molecule_grpc.memory.values import (
    Access,
    Change,
    Committed,
    Consolidated,
    Draft,
    Hygiene,
    MemoryRow,
    Updated,
    VersionRow,
)
from molecule_grpc.quotas import QuotaUse


class AuditEntry(NamedTuple):
    """A row for the record of a workspace that wrote, edited or forgot a memory of many readers.

    Args:
        workspace_id: whose record; who acted.
        activity_type: `memory_write_global`, `memory_edit_global` or `memory_forget_global`.
        summary: one line for people, without the memory's text.
        body: JSON text: `memory_id`, `namespace`, `content_sha256`, and for an edit `reason`.
    """

    workspace_id: UUID
    activity_type: str
    summary: str
    body: str


# Puts rows into records, in the caller's transaction. No day's quota refuses them.
Audit: TypeAlias = Callable[[Connection, Sequence[AuditEntry]], Awaitable[None]]

InTransaction: TypeAlias = Callable[[Connection, list[UUID]], Awaitable[None]]
OnUses: TypeAlias = Callable[[UUID, UUID | None], Awaitable[list[QuotaUse]]]


OnCreated: TypeAlias = Callable[[UUID, Sequence[InitialMemory]], Awaitable[int]]


class Workspaces(Protocol):
    """Where to subscribe to what happens to workspaces."""

    @property
    def on_created(self) -> Callable[[OnCreated], None]:
        """Called after the commit of a workspace that shall know something from the start."""
        ...

    @property
    def on_purge(self) -> Callable[[InTransaction], None]:
        """Called in the transaction that deletes removed workspaces, before it deletes them."""
        ...

    @property
    def on_uses(self) -> Callable[[OnUses], None]:
        """Called when somebody asks how much of its quotas an organisation uses."""
        ...


class Resolving(Protocol):
    """Derives rights from the tree as it is."""

    async def access(self, workspace_id: UUID) -> Access:
        """What a workspace can read and write. Raises `NotFound` WORKSPACE_NOT_FOUND."""
        ...

    async def with_languages(self, access: Access) -> Access:
        """The same, each namespace with its language."""
        ...


class Storing(Protocol):
    """The way in of what an import holds."""

    async def commit(
        self, author: UUID, draft: Draft, *, operator: bool = False, overwrite: bool = True
    ) -> Committed: ...


class Committing(Storing, Protocol):
    """The way in of every new text. `memory/commits.py` says what each method raises."""

    async def commit_batch(
        self, author: UUID, drafts: Sequence[Draft], *, operator: bool = False
    ) -> list[Committed | MoleculeError]: ...
    async def supersede(self, author: UUID, memory_id: UUID, draft: Draft) -> Committed: ...
    async def consolidate(
        self, author: UUID, memory_ids: Sequence[UUID], draft: Draft, *, dry_run: bool
    ) -> Consolidated: ...
    async def undo(self, caller: UUID, memory_id: UUID) -> list[UUID]: ...


class Changing(Protocol):
    """Changes and removes what is stored. `own`: only what the caller wrote."""

    async def update(
        self, caller: UUID, memory_id: UUID, change: Change, *, own: bool = False
    ) -> Updated: ...
    async def forget(
        self, caller: UUID, memory_id: UUID, namespace: str = "", *, own: bool = False
    ) -> int: ...
    async def set_language(self, caller: UUID, namespace: str, language: str) -> int: ...


class Reading(Protocol):
    """Reads what a workspace can read. Texts are as stored: `rendering` makes them fit."""

    async def get(self, reader: UUID, memory_id: UUID) -> MemoryRow: ...
    async def history(self, reader: UUID, memory_id: UUID) -> tuple[list[VersionRow], bool]: ...
    async def hygiene(self, reader: UUID, namespace: str) -> Hygiene: ...


class Finding(Protocol):
    """Searches what a workspace can read. Texts are as stored."""

    async def search(self, access: Access, query: Query) -> Found: ...
    async def explain(self, access: Access, memory_id: UUID, query: Query) -> Explained: ...


class Exporting(Protocol):
    """The way out of all memories, as one JSON array in pieces."""

    def pieces(self, organization_id: UUID | None) -> AsyncGenerator[bytes, None]: ...
