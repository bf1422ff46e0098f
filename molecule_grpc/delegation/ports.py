"""What the slice needs of others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol
from uuid import UUID

from google.api import httpbody_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.directory import WorkspaceInfo
from molecule_grpc.server.call import Call


class Directory(Protocol):
    """Who is there, and who may talk to whom."""

    async def lookup(self, workspace_id: UUID) -> WorkspaceInfo | None:
        """A workspace that is not removed; None when there is none."""
        ...

    async def require_reachable(self, source: UUID, target: UUID) -> WorkspaceInfo:
        """The target, unless it is unknown (`NotFound`) or not related (`Denied`)."""
        ...


class Mcp(Protocol):
    """Serves agents that speak the Model Context Protocol."""

    async def call(self, request: pb.CallMcpRequest, call: Call) -> httpbody_pb2.HttpBody:
        """Answer what was posted."""
        ...

    def stream(
        self, request: pb.StreamMcpRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """Tell where to post, and stay."""
        ...
