"""The RPCs of WorkspaceService by which people start and stop workspaces."""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.backends.lifecycle.verbs import Verbs
from molecule_grpc.backends.operations.rules import Options
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.server.call import Call

_PROVISIONING: Final = workspace_pb2.Workspace.provisioning
# What a restart without a template starts with: the files that the workspace has.
_EXISTING: Final = "existing-volume"


class LifecycleService:
    """Serves the verbs: requests to values and back. The policy keeps strangers out."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs

    async def RestartWorkspace(
        self, request: pb.RestartWorkspaceRequest, call: Call
    ) -> pb.RestartWorkspaceResponse:
        options = Options(
            reset_session=request.reset,
            apply_template=request.apply_template,
            rebuild_config=request.rebuild_config,
            template=request.template,
        )
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        await self._verbs.restart(workspace_id, call.principal.organization_id, options)
        return pb.RestartWorkspaceResponse(
            status=_PROVISIONING,
            config_dir=request.template or _EXISTING,
            reset_session=request.reset,
        )

    async def PauseWorkspace(
        self, request: pb.PauseWorkspaceRequest, call: Call
    ) -> pb.PauseWorkspaceResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        count = await self._verbs.pause(workspace_id, call.principal.organization_id)
        return pb.PauseWorkspaceResponse(status=workspace_pb2.Workspace.paused, paused_count=count)

    async def ResumeWorkspace(
        self, request: pb.ResumeWorkspaceRequest, call: Call
    ) -> pb.ResumeWorkspaceResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        done = await self._verbs.resume(workspace_id, call.principal.organization_id)
        return pb.ResumeWorkspaceResponse(status=_status(done.status), resumed_count=done.resumed)

    async def HibernateWorkspace(
        self, request: pb.HibernateWorkspaceRequest, call: Call
    ) -> pb.HibernateWorkspaceResponse:
        status = await self._verbs.hibernate(
            parse_id(request.workspace_id, "workspace_id"),
            call.principal.organization_id,
            force=request.force,
        )
        return pb.HibernateWorkspaceResponse(status=_status(status))

    async def WakeWorkspace(
        self, request: pb.WakeWorkspaceRequest, call: Call
    ) -> pb.WakeWorkspaceResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        await self._verbs.wake(workspace_id, call.principal.organization_id)
        return pb.WakeWorkspaceResponse(status=_PROVISIONING)


def handlers(service: LifecycleService) -> tuple[ServiceDescriptor, object]:
    """The service's descriptor with the handlers of this slice; others have more of them."""
    return pb.DESCRIPTOR.services_by_name["WorkspaceService"], service


def _status(stored: str) -> workspace_pb2.Workspace.Status.ValueType:
    return workspace_pb2.Workspace.Status.Value(stored)
