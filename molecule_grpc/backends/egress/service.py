"""The RPC of WorkspaceService that shows egress."""

from __future__ import annotations

from google.protobuf import struct_pb2
from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.workspace.v1 import egress_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import Role
from molecule_grpc.backends.egress.reading import EgressViews
from molecule_grpc.backends.egress.values import Refusal, View
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.server.call import Call


class EgressService:
    """Serves what concerns egress: requests to values and back."""

    def __init__(self, views: EgressViews) -> None:
        self._views = views

    async def GetEgress(self, request: pb.GetEgressRequest, call: Call) -> egress_pb2.Egress:
        principal = call.principal
        within = None if principal.role is Role.OPERATOR else principal.organization_id
        return _egress(await self._views.of(parse_id(request.workspace_id, "workspace_id"), within))


def handlers(service: EgressService) -> tuple[ServiceDescriptor, object]:
    """The service's descriptor with the handler of this room; others have more of them."""
    return pb.DESCRIPTOR.services_by_name["WorkspaceService"], service


def _egress(view: View) -> egress_pb2.Egress:
    message = egress_pb2.Egress(
        enforced=view.enforced, refused=[_refused(each) for each in view.refused]
    )
    given = view.hosts.as_given
    if isinstance(given, str):
        message.egress.string_value = given
    else:
        message.egress.list_value.values.extend(
            struct_pb2.Value(string_value=each) for each in given
        )
    return message


def _refused(row: Refusal) -> egress_pb2.RefusedHost:
    return egress_pb2.RefusedHost(
        host=row.host,
        port=row.port,
        reason=egress_pb2.RefusedHost.Reason.Value(row.reason),
        attempts=row.attempts,
        first_at=timestamp(row.first_at),
        last_at=timestamp(row.last_at),
    )
