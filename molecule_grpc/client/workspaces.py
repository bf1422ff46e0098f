"""Workspaces: adding, reading, changing and removing them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf import struct_pb2
from moleculeai.workspace.v1 import egress_pb2, operation_pb2, workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.client.connected import Connected

_PAGE = 500


class Workspaces(Connected):
    """The part of `Platform` that administers workspaces."""

    async def create_workspace(self, name: str, **fields: Any) -> pb.CreateWorkspaceResponse:
        """Add an external workspace; its token is in `connection.auth_token` of this answer only.

        Args:
            name: 1 to 255 bytes, unique among its siblings.
            **fields: of CreateWorkspaceRequest, such as `role` (at most 1000 bytes) or `parent_id`.

        Raises:
            InvalidArgument: a field is malformed, or the URL must not be called.
            AlreadyExists: WORKSPACE_NAME_TAKEN.
            NotFound: the parent or the organisation is unknown.
        """
        fields.setdefault("runtime", "external")
        request = pb.CreateWorkspaceRequest(name=name, **fields)
        return await self.connection.call(
            self.connection.workspaces.CreateWorkspace, request, retry=False
        )

    async def workspaces(self) -> AsyncIterator[workspace_pb2.Workspace]:
        """Every live workspace, oldest first, read in pages of 500."""
        request = pb.ListWorkspacesRequest(limit=_PAGE)
        async for page in self.connection.pages(self.connection.workspaces.ListWorkspaces, request):
            for workspace in page.workspaces:
                yield workspace

    async def workspace(
        self, workspace_id: str, *, include_removed: bool = False
    ) -> workspace_pb2.Workspace:
        """One workspace.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: unknown, or removed and not asked for.
        """
        request = pb.GetWorkspaceRequest(workspace_id=workspace_id, include_removed=include_removed)
        return await self.connection.call(
            self.connection.workspaces.GetWorkspace, request, retry=True
        )

    async def update_workspace(
        self, workspace_id: str, *, parent_id: str | None = None, **fields: Any
    ) -> pb.UpdateWorkspaceResponse:
        """Change the given fields and no others.

        Args:
            workspace_id: UUID of the workspace.
            parent_id: UUID of the new parent; empty makes a root, None keeps the parent.
            **fields: of UpdateWorkspaceRequest, such as `name` or `role`.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            AlreadyExists: WORKSPACE_NAME_TAKEN.
        """
        request = pb.UpdateWorkspaceRequest(workspace_id=workspace_id, **fields)
        if parent_id:
            request.parent_id.string_value = parent_id
        elif parent_id is not None:
            request.parent_id.null_value = struct_pb2.NULL_VALUE
        return await self.connection.call(
            self.connection.workspaces.UpdateWorkspace, request, retry=True
        )

    async def remove_workspace(
        self, workspace_id: str, *, confirm: bool = False, purge: bool = False
    ) -> pb.DeleteWorkspaceResponse:
        """Remove a workspace. Open streams of the workspace end, and its tokens are revoked.

        With live children and without `confirm` nothing changes, and the answer's status is
        `confirmation_required`.

        Args:
            confirm: remove all descendants, too.
            purge: also delete the rows, for good; the history of delegations stays.
        """
        request = pb.DeleteWorkspaceRequest(workspace_id=workspace_id, confirm=confirm, purge=purge)
        return await self.connection.call(
            self.connection.workspaces.DeleteWorkspace, request, retry=True
        )

    async def collapse_workspace(self, workspace_id: str) -> pb.CollapseWorkspaceResponse:
        """Remove everything below a workspace, which itself stays."""
        return await self.connection.call(
            self.connection.workspaces.CollapseWorkspace,
            pb.CollapseWorkspaceRequest(workspace_id=workspace_id),
            retry=True,
        )

    async def peers(self, workspace_id: str, q: str = "") -> list[workspace_pb2.Peer]:
        """Parent, children and siblings of a workspace whose name or role contains `q`, by name."""
        request = pb.ListPeersRequest(workspace_id=workspace_id, q=q, limit=_PAGE)
        pages = self.connection.pages(self.connection.workspaces.ListPeers, request)
        return [peer async for page in pages for peer in page.peers]

    async def quota(
        self, *, organization_id: str = "", workspace_id: str = ""
    ) -> pb.GetQuotaResponse:
        """How much an organisation, and a workspace of it, uses of what it may use.

        Args:
            organization_id: UUID; empty for the workspace's or the caller's own.
            workspace_id: UUID; empty for the caller's own, or for the organisation alone.

        Raises:
            NotFound: ORGANIZATION_NOT_FOUND or WORKSPACE_NOT_FOUND, also for another's.
        """
        request = pb.GetQuotaRequest(organization_id=organization_id, workspace_id=workspace_id)
        return await self.connection.call(self.connection.workspaces.GetQuota, request, retry=True)

    async def operations(
        self, workspace_id: str, *, most: int = 200
    ) -> list[operation_pb2.Operation]:
        """The newest starts and stops of a workspace, newest first: at most `most`.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        request = pb.ListOperationsRequest(workspace_id=workspace_id, limit=min(most, 200))
        found: list[operation_pb2.Operation] = []
        async for page in self.connection.pages(self.connection.workspaces.ListOperations, request):
            found += page.operations
            if len(found) >= most:
                break
        return found[:most]

    async def egress(self, workspace_id: str) -> egress_pb2.Egress:
        """Which hosts a workspace may reach, and which it was refused lately.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        request = pb.GetEgressRequest(workspace_id=workspace_id)
        return await self.connection.call(self.connection.workspaces.GetEgress, request, retry=True)

    async def set_egress(
        self, workspace_id: str, hosts: str | Sequence[str]
    ) -> pb.UpdateWorkspaceResponse:
        """Change which hosts a workspace may reach. `needs_restart` tells whether that is due.

        Args:
            workspace_id: UUID of the workspace.
            hosts: `open`, `none`, or up to 100 of `host`, `host:port` and `*.host`.

        Raises:
            InvalidArgument: a host is malformed.
            PermissionDenied: the token is a workspace's.
            NotFound: WORKSPACE_NOT_FOUND.
        """
        request = pb.UpdateWorkspaceRequest(workspace_id=workspace_id)
        if isinstance(hosts, str):
            request.egress.string_value = hosts
        else:
            request.egress.list_value.values.extend(
                struct_pb2.Value(string_value=each) for each in hosts
            )
        return await self.connection.call(
            self.connection.workspaces.UpdateWorkspace, request, retry=True
        )
