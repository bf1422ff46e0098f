"""What the slice needs of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import UUID

from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb


class Facts(Protocol):
    """What is known of a workspace."""

    @property
    def id(self) -> UUID: ...
    @property
    def organization_id(self) -> UUID: ...
    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def delivery_mode(self) -> str | None: ...


class Directory(Protocol):
    """Who is there, and who may talk to whom."""

    async def lookup(self, workspace_id: UUID) -> Facts | None:
        """A workspace that is not removed; None when there is none."""
        ...

    async def require_reachable(self, source: UUID, target: UUID) -> Facts:
        """The target, unless it is unknown (`NotFound`) or not related (`Denied`)."""
        ...


Heartbeat = Callable[[workspace_pb.HeartbeatRequest], Awaitable[workspace_pb.HeartbeatResponse]]
