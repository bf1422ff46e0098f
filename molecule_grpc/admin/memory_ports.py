"""What the slice needs of memories. `organization_id` None means all organisations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID


class MemoryGrant(Protocol):
    """A right that an operator gave beside those of the tree."""

    @property
    def namespace(self) -> str: ...
    @property
    def workspace_id(self) -> UUID: ...
    @property
    def can_write(self) -> bool: ...
    @property
    def granted_by(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


class AuthorQuarantine(Protocol):
    """An author whose texts nobody reads."""

    @property
    def author_id(self) -> UUID: ...
    @property
    def reason(self) -> str: ...
    @property
    def created_by(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


class NamespaceSize(Protocol):
    """What one namespace holds. `bytes` are those of the texts."""

    @property
    def namespace(self) -> str: ...
    @property
    def organization_id(self) -> UUID: ...
    @property
    def memories(self) -> int: ...
    @property
    def bytes(self) -> int: ...


class MemoryStats(Protocol):
    """What is stored. `largest` are at most a hundred."""

    @property
    def namespaces(self) -> int: ...
    @property
    def memories(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def embed_pending(self) -> int: ...
    @property
    def embed_failed(self) -> int: ...
    @property
    def quarantined_authors(self) -> int: ...
    @property
    def largest(self) -> Sequence[NamespaceSize]: ...


class MemoryRights(Protocol):
    """What operators may do with namespaces and authors."""

    async def set(
        self,
        organization_id: UUID | None,
        namespace: str,
        workspace_id: UUID,
        *,
        can_write: bool,
        granted_by: str,
    ) -> MemoryGrant:
        """Give a right, or change it. Raises `NotFound` WORKSPACE_NOT_FOUND, `Invalid`."""
        ...

    async def list(
        self,
        organization_id: UUID | None,
        *,
        namespace: str,
        workspace_id: UUID | None,
        after: tuple[str, UUID] | None,
        limit: int,
    ) -> Sequence[MemoryGrant]:
        """Grants by namespace and workspace; an empty namespace means any."""
        ...

    async def delete(
        self, organization_id: UUID | None, namespace: str, workspace_id: UUID
    ) -> None:
        """Take a right back; what is absent stays so."""
        ...

    async def move(self, organization_id: UUID, source: str, target: str) -> int:
        """Move all memories; how many. Raises `NotFound` NAMESPACE_NOT_FOUND, `Invalid`."""
        ...

    async def delete_namespace(self, organization_id: UUID, namespace: str) -> int:
        """Delete a namespace; how many memories went. Raises `NotFound` NAMESPACE_NOT_FOUND."""
        ...

    async def stats(self, organization_id: UUID | None) -> MemoryStats:
        """What is stored."""
        ...

    async def quarantine(
        self, organization_id: UUID | None, author_id: UUID, *, reason: str, created_by: str
    ) -> AuthorQuarantine:
        """Hide what an author wrote. Raises `NotFound` WORKSPACE_NOT_FOUND."""
        ...

    async def quarantines(
        self,
        organization_id: UUID | None,
        *,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Sequence[AuthorQuarantine]:
        """Whose texts are hidden, newest first."""
        ...

    async def release(self, organization_id: UUID | None, author_id: UUID) -> None:
        """Show an author's texts again; who is not hidden stays so."""
        ...


class MemoryExports(Protocol):
    """Memories as one JSON array."""

    def pieces(self, organization_id: UUID | None) -> AsyncGenerator[bytes, None]:
        """The array in pieces. Raises `NotFound` ORGANIZATION_NOT_FOUND."""
        ...


class ImportSkip(Protocol):
    """An element that was not stored."""

    @property
    def place(self) -> int: ...
    @property
    def reason(self) -> str: ...


class Imported(Protocol):
    """What became of an array."""

    @property
    def imported(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def skips(self) -> Sequence[ImportSkip]: ...


class MemoryImports(Protocol):
    """Stores what an export holds."""

    async def run(self, organization_id: UUID, pieces: AsyncIterator[bytes]) -> Imported:
        """Store an array as it arrives. Raises `NotFound` ORGANIZATION_NOT_FOUND, `Invalid`."""
        ...
