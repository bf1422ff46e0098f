"""The RPCs of approvals, converted to the use cases that serve them and back."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from google.protobuf import json_format, struct_pb2
from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.workspace.v1 import approval_pb2 as pb
from moleculeai.workspace.v1 import workspace_service_pb2

from molecule_grpc.approvals.approvals import Approvals
from molecule_grpc.approvals.values import Approval, Asked, Status
from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.json_text import to_text
from molecule_grpc.kernel.page import Page, messages_of
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.server.call import Call

_NEXT: Final = "x-next-page-token"


class ApprovalsService:
    """Serves what WorkspaceService has of approvals."""

    def __init__(self, approvals: Approvals) -> None:
        self._approvals = approvals

    async def CreateApproval(
        self, request: pb.CreateApprovalRequest, call: Call
    ) -> pb.CreateApprovalResponse:
        approval_id, expires_at = await self._approvals.ask(
            parse_id(request.workspace_id, "workspace_id"),
            Asked(
                action=request.action,
                reason=request.reason,
                task_id=request.task_id,
                context=_context(request),
                seconds=request.expires_in_seconds,
            ),
        )
        return pb.CreateApprovalResponse(
            approval_id=str(approval_id),
            status=pb.Approval.pending,
            expires_at=timestamp(expires_at),
        )

    async def ListApprovals(
        self, request: pb.ListApprovalsRequest, call: Call
    ) -> pb.ListApprovalsResponse:
        page = await self._approvals.of_workspace(
            parse_id(request.workspace_id, "workspace_id"),
            limit=request.limit,
            page_token=request.page_token,
        )
        return pb.ListApprovalsResponse(approvals=await self._shown(page, call))

    async def ListPendingApprovals(
        self, request: pb.ListPendingApprovalsRequest, call: Call
    ) -> pb.ListPendingApprovalsResponse:
        page = await self._approvals.pending(
            _within(call.principal), limit=request.limit, page_token=request.page_token
        )
        return pb.ListPendingApprovalsResponse(approvals=await self._shown(page, call))

    async def DecideApproval(
        self, request: pb.DecideApprovalRequest, call: Call
    ) -> pb.DecideApprovalResponse:
        principal = call.principal
        await self._approvals.decide(
            parse_id(request.workspace_id, "workspace_id"),
            parse_id(request.approval_id, "approval_id"),
            _within(principal),
            Status(pb.Approval.Status.Name(request.decision)),
            request.decided_by or principal.role.value,
        )
        return pb.DecideApprovalResponse(status=request.decision, approval_id=request.approval_id)

    async def _shown(self, page: Page[Approval], call: Call) -> list[pb.Approval]:
        """The rows that fit, and the token of the next page in the header."""
        shown = await messages_of(page, _approval, pb.Approval.ByteSize)
        if shown.last is not None:
            call.headers[_NEXT] = self._approvals.token_after(shown.last)
        return shown.messages


def _within(principal: Principal) -> UUID | None:
    """The only organisation whose requests a caller may see; None for any."""
    return None if principal.role is Role.OPERATOR else principal.organization_id


def _context(request: pb.CreateApprovalRequest) -> str | None:
    if not request.HasField("context"):
        return None
    return to_text(json_format.MessageToDict(request.context), "context")


def _approval(row: Approval) -> pb.Approval:
    context = None
    if row.context is not None:
        context = json_format.Parse(row.context, struct_pb2.Value())
    return pb.Approval(
        id=str(row.id),
        workspace_id=str(row.workspace_id),
        workspace_name=row.workspace_name,
        action=row.action,
        reason=row.reason,
        task_id=row.task_id,
        context=context,
        status=pb.Approval.Status.Value(row.status),
        decided_by=row.decided_by,
        decided_at=timestamp(row.decided_at),
        expires_at=timestamp(row.expires_at),
        created_at=timestamp(row.created_at),
    )


def handlers(service: ApprovalsService) -> tuple[ServiceDescriptor, object]:
    """The descriptor of WorkspaceService with the handlers of this slice."""
    return workspace_service_pb2.DESCRIPTOR.services_by_name["WorkspaceService"], service
