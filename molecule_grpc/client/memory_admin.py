"""What operators and organisations do with memories: rights, quarantine, namespaces, counts."""

from __future__ import annotations

from moleculeai.admin.v1 import admin_service_pb2 as pb

from molecule_grpc.client.connection import Connection


class MemoryAdmin:
    """The memories of an organisation, as its administrators see them.

    Every call may raise any kind of `CallError`; each method names the kinds that are its own.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # Rights beside those of the tree.

    async def grants(self, namespace: str = "", workspace_id: str = "") -> list[pb.MemoryGrant]:
        """Every grant, by namespace and workspace.

        Args:
            namespace: only those of this namespace; empty for all.
            workspace_id: only those of this workspace; empty for all.
        """
        request = pb.ListMemoryGrantsRequest(namespace=namespace, workspace_id=workspace_id)
        pages = self._connection.pages(self._connection.admin.ListMemoryGrants, request)
        return [grant async for page in pages for grant in page.grants]

    async def grant(
        self, workspace_id: str, namespace: str, *, can_write: bool = False
    ) -> pb.MemoryGrant:
        """Let a workspace read a namespace of its organisation.

        Args:
            workspace_id: UUID of the workspace.
            namespace: one of the tree, or `custom:<name>`.
            can_write: whether it may write there, too.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        request = pb.SetMemoryGrantRequest(
            workspace_id=workspace_id, namespace=namespace, can_write=can_write
        )
        return await self._connection.call(
            self._connection.admin.SetMemoryGrant, request, retry=True
        )

    async def revoke_grant(self, workspace_id: str, namespace: str) -> None:
        """Take a grant back, from the next call on; harmless where there is none."""
        request = pb.DeleteMemoryGrantRequest(workspace_id=workspace_id, namespace=namespace)
        await self._connection.call(self._connection.admin.DeleteMemoryGrant, request, retry=True)

    # Authors whose texts nobody reads.

    async def quarantine(self, workspace_id: str, reason: str = "") -> pb.AuthorQuarantine:
        """Hide everything that a workspace wrote, on every path, from the next call on.

        Args:
            workspace_id: UUID of the author.
            reason: for people, at most 1,000 bytes.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        request = pb.SetAuthorQuarantineRequest(workspace_id=workspace_id, reason=reason)
        return await self._connection.call(
            self._connection.admin.SetAuthorQuarantine, request, retry=True
        )

    async def quarantines(self) -> list[pb.AuthorQuarantine]:
        """Whose texts are hidden, newest first."""
        request = pb.ListAuthorQuarantinesRequest()
        pages = self._connection.pages(self._connection.admin.ListAuthorQuarantines, request)
        return [each async for page in pages for each in page.quarantines]

    async def end_quarantine(self, workspace_id: str) -> None:
        """Show a workspace's texts again; harmless where they are not hidden."""
        request = pb.DeleteAuthorQuarantineRequest(workspace_id=workspace_id)
        await self._connection.call(
            self._connection.admin.DeleteAuthorQuarantine, request, retry=True
        )

    # Namespaces as a whole.

    async def move_namespace(self, source: str, target: str, organization_id: str = "") -> int:
        """Move all memories of a namespace into another one; how many moved.

        Args:
            source: the namespace to empty.
            target: the namespace to fill; may hold memories.
            organization_id: whose; empty for the caller's own, or the default one.

        Raises:
            NotFound: NAMESPACE_NOT_FOUND, also on a repeat.
        """
        request = pb.MoveMemoryNamespaceRequest(
            organization_id=organization_id, source=source, target=target
        )
        done = await self._connection.call(
            self._connection.admin.MoveMemoryNamespace, request, retry=False
        )
        return done.moved

    async def delete_namespace(self, namespace: str, organization_id: str = "") -> int:
        """Delete a namespace for good, with all that it holds; how many memories are gone.

        Args:
            namespace: which.
            organization_id: whose; empty for the caller's own, or the default one.

        Raises:
            NotFound: NAMESPACE_NOT_FOUND, also on a repeat.
        """
        request = pb.DeleteMemoryNamespaceRequest(
            organization_id=organization_id, namespace=namespace
        )
        done = await self._connection.call(
            self._connection.admin.DeleteMemoryNamespace, request, retry=False
        )
        return done.removed

    async def stats(self, organization_id: str = "") -> pb.GetMemoryStatsResponse:
        """What is stored, and the hundred largest namespaces.

        Args:
            organization_id: whose; empty for the caller's own, or for all.
        """
        request = pb.GetMemoryStatsRequest(organization_id=organization_id)
        return await self._connection.call(
            self._connection.admin.GetMemoryStats, request, retry=True
        )
