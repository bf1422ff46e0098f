"""What the slice needs of others, and what its use cases need of a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.quotas import QuotaUse


class FileNotice(NamedTuple):
    """The inbox item that tells an agent of a file. The body is JSON text."""

    workspace_id: UUID
    file_id: UUID
    summary: str
    body: str


# Puts notices into the record and inbox of one workspace, in this order and this transaction.
# Raises `Exhausted` INBOX_FULL.
Announce = Callable[[Connection, Sequence[FileNotice]], Awaitable[None]]
# Wakes, after the commit, whoever waits for news of these workspaces.
Wake = Callable[[Iterable[UUID]], None]
OnRemove = Callable[[Connection, list[UUID]], Awaitable[None]]
OnRemoved = Callable[[Sequence[UUID]], None]
OnUses = Callable[[UUID, UUID | None], Awaitable[list[QuotaUse]]]


class Workspaces(Protocol):
    """Where to subscribe to what happens to workspaces."""

    @property
    def on_remove(self) -> Callable[[OnRemove], None]:
        """Called in the transaction of a removal; an error undoes the removal."""
        ...

    @property
    def on_removed(self) -> Callable[[OnRemoved], None]:
        """Called after the commit of a removal."""
        ...

    @property
    def on_uses(self) -> Callable[[OnUses], None]:
        """Called when somebody asks how much of its quotas an organisation uses."""
        ...


# Raises `Unauthenticated` once the caller's token was revoked.
Check = Callable[[], None]
