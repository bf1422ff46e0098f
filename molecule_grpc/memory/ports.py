"""What the slice needs of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from molecule_grpc.db.pool import Connection
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


class Workspaces(Protocol):
    """Where to subscribe to what happens to workspaces."""

    @property
    def on_purge(self) -> Callable[[InTransaction], None]:
        """Called in the transaction that deletes removed workspaces, before it deletes them."""
        ...

    @property
    def on_uses(self) -> Callable[[OnUses], None]:
        """Called when somebody asks how much of its quotas an organisation uses."""
        ...
