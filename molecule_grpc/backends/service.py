"""The RPCs of WorkspaceService that backends serve."""

from __future__ import annotations

from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import Role
from molecule_grpc.backends import convert
from molecule_grpc.backends.operations.history import History
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.server.call import Call


class OperationsService:
    """Serves what concerns operations: requests to values and back."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def ListOperations(
        self, request: pb.ListOperationsRequest, call: Call
    ) -> pb.ListOperationsResponse:
        principal = call.principal
        page = await self._history.list_of(
            parse_id(request.workspace_id, "workspace_id"),
            None if principal.role is Role.OPERATOR else principal.organization_id,
            limit=request.limit,
            page_token=request.page_token,
        )
        if page.last is not None:
            call.headers["x-next-page-token"] = self._history.token_after(page.last)
        return pb.ListOperationsResponse(
            operations=[
                convert.operation(row, administers=principal.administers) for row in page.rows
            ]
        )


def handlers(service: OperationsService) -> tuple[ServiceDescriptor, object]:
    """The service's descriptor with the handlers of this slice; others have more of them."""
    return pb.DESCRIPTOR.services_by_name["WorkspaceService"], service
