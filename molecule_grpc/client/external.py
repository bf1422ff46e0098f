"""How agents outside the platform connect as workspaces."""

from __future__ import annotations

from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.client.connection import Connection


class External:
    """Calls about external workspaces.

    Args:
        connection: with an operator's or an organisation's token, or that of the workspace.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def details(self, workspace_id: str) -> workspace_pb2.ConnectionInfo:
        """URLs and texts for connecting an agent; without a token.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            FailedPrecondition: RUNTIME_NOT_EXTERNAL.
        """
        request = pb.GetExternalConnectionRequest(workspace_id=workspace_id)
        call = self._connection.workspaces.GetExternalConnection
        return (await self._connection.call(call, request, retry=True)).connection

    async def rotate(self, workspace_id: str) -> workspace_pb2.ConnectionInfo:
        """Revoke every token of a workspace and mint one; only this answer carries it.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            FailedPrecondition: RUNTIME_NOT_EXTERNAL.
        """
        request = pb.RotateExternalCredentialsRequest(workspace_id=workspace_id)
        call = self._connection.workspaces.RotateExternalCredentials
        return (await self._connection.call(call, request, retry=False)).connection
