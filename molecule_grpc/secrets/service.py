"""The RPCs of secrets, converted to the use cases that serve them and back."""

from __future__ import annotations

from uuid import UUID

from google.protobuf import struct_pb2
from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.workspace.v1 import secret_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.secrets.owner import INSTALLATION, Owner
from molecule_grpc.secrets.secrets import Secrets, organization_missing
from molecule_grpc.secrets.store.rows import SecretRow
from molecule_grpc.server.call import Call


class SecretsService:
    """Serves what WorkspaceService has of secrets."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    async def ListSecrets(
        self, request: pb.ListSecretsRequest, call: Call
    ) -> pb.ListSecretsResponse:
        found = await self._secrets.list_effective(parse_id(request.workspace_id, "workspace_id"))
        return pb.ListSecretsResponse(secrets=[_secret(row) for row in found])

    async def GetSecretValues(
        self, request: pb.GetSecretValuesRequest, call: Call
    ) -> struct_pb2.Struct:
        values = struct_pb2.Struct()
        values.update(await self._secrets.values(parse_id(request.workspace_id, "workspace_id")))
        return values

    async def SetSecret(self, request: pb.SetSecretRequest, call: Call) -> pb.SetSecretResponse:
        await self._secrets.set(_of_workspace(request.workspace_id), request.key, request.value)
        return pb.SetSecretResponse(status="saved", key=request.key)

    async def DeleteSecret(
        self, request: pb.DeleteSecretRequest, call: Call
    ) -> pb.DeleteSecretResponse:
        await self._secrets.delete(_of_workspace(request.workspace_id), request.key)
        return pb.DeleteSecretResponse(status="deleted", key=request.key)

    async def ListSharedSecrets(
        self, request: pb.ListSharedSecretsRequest, call: Call
    ) -> pb.ListSharedSecretsResponse:
        found = await self._secrets.list_own(_shared(call.principal, request.organization_id))
        return pb.ListSharedSecretsResponse(secrets=[_secret(row) for row in found])

    async def SetSharedSecret(
        self, request: pb.SetSharedSecretRequest, call: Call
    ) -> pb.SetSharedSecretResponse:
        owner = _shared(call.principal, request.organization_id)
        await self._secrets.set(owner, request.key, request.value)
        return pb.SetSharedSecretResponse(status="saved", key=request.key, scope=_scope(owner))

    async def DeleteSharedSecret(
        self, request: pb.DeleteSharedSecretRequest, call: Call
    ) -> pb.DeleteSharedSecretResponse:
        owner = _shared(call.principal, request.organization_id)
        await self._secrets.delete(owner, request.key)
        return pb.DeleteSharedSecretResponse(status="deleted", key=request.key, scope=_scope(owner))

    async def ReencryptSecrets(
        self, request: pb.ReencryptSecretsRequest, call: Call
    ) -> pb.ReencryptSecretsResponse:
        done = await self._secrets.reseal()
        return pb.ReencryptSecretsResponse(reencrypted=done.resealed, unreadable=done.unreadable)


def _of_workspace(workspace_id: str) -> Owner:
    """The owner, its organisation not looked up yet."""
    return Owner(workspace_id=parse_id(workspace_id, "workspace_id"))


def _shared(principal: Principal, organization_id: str) -> Owner:
    """Whose shared secrets a caller means.

    Raises:
        NotFound: ORGANIZATION_NOT_FOUND: another than the caller's.
    """
    named = parse_id(organization_id, "organization_id") if organization_id else None
    if principal.role is Role.OPERATOR:
        return INSTALLATION if named is None else Owner(named)
    if named not in (None, principal.organization_id):
        raise organization_missing()
    return Owner(_known(principal.organization_id))


def _known(organization_id: UUID | None) -> UUID:
    assert organization_id is not None, "a caller without a token is refused by the policy"
    return organization_id


def _scope(owner: Owner) -> secret_pb2.Secret.Scope.ValueType:
    return secret_pb2.Secret.Scope.Value(owner.scope)


def _secret(row: SecretRow) -> secret_pb2.Secret:
    return secret_pb2.Secret(
        key=row.key,
        has_value=True,
        scope=secret_pb2.Secret.Scope.Value(row.scope),
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
    )


def handlers(service: SecretsService) -> tuple[ServiceDescriptor, object]:
    """The descriptor of WorkspaceService with the handlers of this slice."""
    return pb.DESCRIPTOR.services_by_name["WorkspaceService"], service
