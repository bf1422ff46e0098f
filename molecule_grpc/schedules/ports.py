"""What the slice needs of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import Directory
from molecule_grpc.quotas import QuotaUse


class Ended(Protocol):
    """A delegation that has ended.

    Args:
        error: why it failed; empty for a success.
        empty: whether the agent said nothing.
    """

    @property
    def delegation_id(self) -> UUID: ...
    @property
    def error(self) -> str: ...
    @property
    def empty(self) -> bool: ...
    @property
    def ended_at(self) -> datetime: ...


class Ledger(Protocol):
    """Delegations of workspaces to themselves."""

    async def fire(self, delegation_id: UUID, workspace_id: UUID, task: str) -> None:
        """Hand a task to a workspace. A second call with the same id changes nothing.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Exhausted: INBOX_FULL or QUOTA_EXCEEDED.
        """
        ...

    async def undelivered(self, delegation_ids: Collection[UUID]) -> set[UUID]:
        """Those that wait for an agent that is away, or has not been called yet."""
        ...

    async def ended(self, delegation_ids: Collection[UUID]) -> Sequence[Ended]:
        """Those that have ended."""
        ...


class Workspaces(Protocol):
    """Workspaces, and what happens to them. The `on_...` members take subscribers."""

    @property
    def directory(self) -> Directory: ...
    @property
    def on_remove(
        self,
    ) -> Callable[[Callable[[Connection, list[UUID]], Awaitable[None]]], None]: ...
    @property
    def on_uses(
        self,
    ) -> Callable[[Callable[[UUID, UUID | None], Awaitable[list[QuotaUse]]]], None]: ...
