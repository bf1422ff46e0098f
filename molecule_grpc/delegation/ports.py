"""What the slice needs of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Protocol
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import Containers, Directory, Heartbeat, HeartbeatResult
from molecule_grpc.quotas import QuotaUse
from molecule_grpc.server.call import Call

OnHeartbeats = Callable[[Sequence[tuple[Heartbeat, HeartbeatResult]]], None]
OnRegistered = Callable[[UUID], None]
OnActiveDelegations = Callable[[UUID, list[str]], Awaitable[None]]
InTransaction = Callable[[Connection, list[UUID]], Awaitable[None]]
OnRemoved = Callable[[Sequence[UUID]], None]
OnUses = Callable[[UUID, UUID | None], Awaitable[list[QuotaUse]]]


class Workspaces(Protocol):
    """Workspaces, and what happens to them. The `on_...` members take subscribers."""

    @property
    def directory(self) -> Directory: ...
    @property
    def heartbeat(self) -> Callable[[Heartbeat], Awaitable[HeartbeatResult]]:
        """Applies a heartbeat, its sender authorised before."""
        ...

    @property
    def touch_present(self) -> Callable[[list[UUID]], Awaitable[None]]:
        """Counts workspaces as alive whose agents hold a stream open."""
        ...

    @property
    def tasks_changed(self) -> Callable[[Iterable[UUID]], None]:
        """Tells the readers of the feed that these workspaces do something else now."""
        ...

    @property
    def containers(self) -> Containers:
        """What runs agents' workloads."""
        ...

    @property
    def on_registered(self) -> Callable[[OnRegistered], None]: ...
    @property
    def on_heartbeats(self) -> Callable[[OnHeartbeats], None]: ...
    @property
    def on_active_delegations(self) -> Callable[[OnActiveDelegations], None]: ...
    @property
    def on_purge(self) -> Callable[[InTransaction], None]: ...
    @property
    def on_removed(self) -> Callable[[OnRemoved], None]: ...
    @property
    def on_uses(self) -> Callable[[OnUses], None]: ...


class McpAnswer(Protocol):
    """What a POST of the Model Context Protocol is answered with. The body is JSON, or empty."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...


class Mcp(Protocol):
    """Serves agents that speak the Model Context Protocol."""

    async def call(self, workspace_id: UUID, data: bytes, call: Call) -> McpAnswer:
        """Answer what was posted."""
        ...

    def stream(self, workspace_id: UUID, call: Call) -> AsyncIterator[str]:
        """Server-sent events that tell an older client where to post."""
        ...
