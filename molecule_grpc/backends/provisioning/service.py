"""The RPC of WorkspaceService by which machines fetch what their workspaces start with."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.workspace.v1 import bootstrap_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.backends.provisioning.bootstrap import TOKEN, Bootstraps
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.server.call import Call


class BootstrapService:
    """Serves the exchange of bootstrap tokens."""

    def __init__(self, bootstraps: Bootstraps) -> None:
        self._bootstraps = bootstraps

    async def ExchangeBootstrapToken(
        self, request: bootstrap_pb2.ExchangeBootstrapTokenRequest, call: Call
    ) -> bootstrap_pb2.ExchangeBootstrapTokenResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        found = await self._bootstraps.exchange(workspace_id, request.bootstrap_token)
        return bootstrap_pb2.ExchangeBootstrapTokenResponse(
            auth_token=found.env[TOKEN],
            environment=dict(found.env),
            config_files=_files(found.config_files),
            secret_files=_files(found.secret_files),
        )


def handlers(service: BootstrapService) -> tuple[ServiceDescriptor, object]:
    """The service's descriptor with this handler; other rooms have more of them."""
    return pb.DESCRIPTOR.services_by_name["WorkspaceService"], service


def _files(files: Mapping[str, bytes]) -> list[bootstrap_pb2.StartFile]:
    return [bootstrap_pb2.StartFile(path=path, content=content) for path, content in files.items()]
