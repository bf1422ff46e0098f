"""Bundles: a workspace with everything below it, as one document to carry elsewhere."""

from __future__ import annotations

from moleculeai.workspace.v1 import bundle_pb2 as pb

from molecule_grpc.client.connection import Connection


class Bundles:
    """Calls about bundles.

    Args:
        connection: with an operator's or an organisation's token.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def export(self, workspace_id: str) -> pb.Bundle:
        """The bundle of a workspace, without secrets, memories and history.

        Raises:
            NotFound: there is no such workspace.
            FailedPrecondition: BUNDLE_TOO_LARGE: more than 200 workspaces, 16 levels or 3 MiB.
        """
        request = pb.ExportBundleRequest(workspace_id=workspace_id)
        call = self._connection.workspaces.ExportBundle
        return await self._connection.call(call, request, retry=True)

    async def import_(
        self, bundle: pb.Bundle, organization_id: str = ""
    ) -> pb.ImportBundleResponse:
        """Add the workspaces of a bundle, and tell what became of each.

        Args:
            organization_id: operators only; empty for the default organisation.

        Raises:
            InvalidArgument: the bundle breaks a rule, and nothing was added.
            AlreadyExists: WORKSPACE_NAME_TAKEN: of its root, and nothing was added.
            ResourceExhausted: QUOTA_EXCEEDED.
        """
        request = pb.ImportBundleRequest(bundle=bundle, organization_id=organization_id)
        call = self._connection.workspaces.ImportBundle
        return await self._connection.call(call, request, retry=False)
