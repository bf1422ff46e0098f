"""Secrets that agents are started with: of a workspace, an organisation or the installation."""

from __future__ import annotations

from moleculeai.workspace.v1 import secret_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.client.connection import Connection


class Secrets:
    """Calls about secrets; every one may be repeated without harm.

    Args:
        connection: with an operator's or an organisation's token, or that of the workspace.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of_workspace(self, workspace_id: str) -> list[secret_pb2.Secret]:
        """What a workspace is started with, by name, inherited ones too; without values."""
        request = pb.ListSecretsRequest(workspace_id=workspace_id)
        call = self._connection.workspaces.ListSecrets
        return list((await self._connection.call(call, request, retry=True)).secrets)

    async def values(self, workspace_id: str) -> dict[str, str]:
        """What a workspace is started with, all or nothing.

        Raises:
            FailedPrecondition: SECRET_UNREADABLE: an encryption key is missing.
        """
        request = pb.GetSecretValuesRequest(workspace_id=workspace_id)
        call = self._connection.workspaces.GetSecretValues
        found = await self._connection.call(call, request, retry=True)
        return {key: value.string_value for key, value in found.fields.items()}

    async def set(self, workspace_id: str, key: str, value: str) -> None:
        """Set a workspace's secret; the last write wins.

        Raises:
            InvalidArgument: the key is no name of an environment variable, or the value exceeds
                64 KiB.
            ResourceExhausted: QUOTA_EXCEEDED: it has 200 secrets, or 256 KiB of them.
        """
        request = pb.SetSecretRequest(workspace_id=workspace_id, key=key, value=value)
        await self._connection.call(self._connection.workspaces.SetSecret, request, retry=True)

    async def delete(self, workspace_id: str, key: str) -> None:
        """Delete a workspace's own secret.

        Raises:
            NotFound: SECRET_NOT_FOUND, also for an inherited one.
        """
        request = pb.DeleteSecretRequest(workspace_id=workspace_id, key=key)
        await self._connection.call(self._connection.workspaces.DeleteSecret, request, retry=True)

    async def shared(self, organization_id: str = "") -> list[secret_pb2.Secret]:
        """What all workspaces inherit, by name, without values.

        Args:
            organization_id: empty for the token's organisation, or for the installation if the
                token is an operator's.
        """
        request = pb.ListSharedSecretsRequest(organization_id=organization_id)
        call = self._connection.workspaces.ListSharedSecrets
        return list((await self._connection.call(call, request, retry=True)).secrets)

    async def set_shared(self, key: str, value: str, organization_id: str = "") -> None:
        """Set what all workspaces inherit; see `set` and `shared`."""
        request = pb.SetSharedSecretRequest(key=key, value=value, organization_id=organization_id)
        call = self._connection.workspaces.SetSharedSecret
        await self._connection.call(call, request, retry=True)

    async def delete_shared(self, key: str, organization_id: str = "") -> None:
        """Delete what all workspaces inherit; see `delete` and `shared`."""
        request = pb.DeleteSharedSecretRequest(key=key, organization_id=organization_id)
        call = self._connection.workspaces.DeleteSharedSecret
        await self._connection.call(call, request, retry=True)

    async def reencrypt(self) -> pb.ReencryptSecretsResponse:
        """Seal everything with the current encryption key. Operators only."""
        call = self._connection.workspaces.ReencryptSecrets
        return await self._connection.call(call, pb.ReencryptSecretsRequest(), retry=True)
