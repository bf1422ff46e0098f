"""Approvals: agents ask people before they act."""

from __future__ import annotations

from typing import Any

from google.protobuf import struct_pb2
from moleculeai.workspace.v1 import approval_pb2 as pb

from molecule_grpc.client.connection import Connection

_PAGE = 500


class Approvals:
    """Calls about approvals.

    Args:
        connection: with the token of the workspace that asks; to decide, that of an operator or an
            organisation.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ask(
        self,
        workspace_id: str,
        action: str,
        *,
        reason: str = "",
        task_id: str = "",
        context: dict[str, Any] | None = None,
        expires_in_seconds: int = 0,
    ) -> pb.CreateApprovalResponse:
        """Ask people for a decision.

        Args:
            action: what shall be done, at most 1,000 bytes.
            context: facts for whoever decides, at most 16 KiB as JSON.
            expires_in_seconds: 60 to 604,800; 0 for the platform's default, 600.

        Raises:
            ResourceExhausted: QUOTA_EXCEEDED: too many requests of the workspace are pending.
        """
        request = pb.CreateApprovalRequest(
            workspace_id=workspace_id,
            action=action,
            reason=reason,
            task_id=task_id,
            expires_in_seconds=expires_in_seconds,
        )
        if context is not None:
            fields = struct_pb2.Struct()
            fields.update(context)
            request.context.struct_value.CopyFrom(fields)
        call = self._connection.workspaces.CreateApproval
        return await self._connection.call(call, request, retry=False)

    async def of_workspace(self, workspace_id: str) -> list[pb.Approval]:
        """What a workspace has asked for, newest first."""
        request = pb.ListApprovalsRequest(workspace_id=workspace_id, limit=_PAGE)
        pages = self._connection.pages(self._connection.workspaces.ListApprovals, request)
        return [row async for page in pages for row in page.approvals]

    async def pending(self) -> list[pb.Approval]:
        """What waits for a decision in the token's organisation; an operator's: in all."""
        request = pb.ListPendingApprovalsRequest(limit=_PAGE)
        pages = self._connection.pages(self._connection.workspaces.ListPendingApprovals, request)
        return [row async for page in pages for row in page.approvals]

    async def decide(
        self, workspace_id: str, approval_id: str, *, approved: bool, decided_by: str = ""
    ) -> None:
        """Decide; the same decision again is accepted.

        Raises:
            NotFound: APPROVAL_NOT_FOUND, or APPROVAL_NOT_PENDING.
        """
        request = pb.DecideApprovalRequest(
            workspace_id=workspace_id,
            approval_id=approval_id,
            decision=pb.Approval.approved if approved else pb.Approval.denied,
            decided_by=decided_by,
        )
        call = self._connection.workspaces.DecideApproval
        await self._connection.call(call, request, retry=True)
