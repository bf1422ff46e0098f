"""The RPCs of schedules, converted to the use cases that serve them and back."""

from __future__ import annotations

from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.workspace.v1 import schedule_pb2 as pb
from moleculeai.workspace.v1 import workspace_service_pb2

from molecule_grpc.auth.principal import Role
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.page import messages_of
from molecule_grpc.schedules import convert
from molecule_grpc.schedules.health import HealthViews
from molecule_grpc.schedules.schedules import Schedules
from molecule_grpc.server.call import Call

_NEXT = "x-next-page-token"


class SchedulesService:
    """Serves what WorkspaceService has of schedules."""

    def __init__(self, schedules: Schedules, health: HealthViews) -> None:
        self._schedules = schedules
        self._health = health

    async def ListSchedules(
        self, request: pb.ListSchedulesRequest, call: Call
    ) -> pb.ListSchedulesResponse:
        found = await self._schedules.list_of(
            parse_id(request.workspace_id, "workspace_id"),
            limit=request.limit,
            page_token=request.page_token,
        )
        page = await messages_of(found, convert.schedule, pb.Schedule.ByteSize)
        if page.last is not None:
            call.headers[_NEXT] = self._schedules.token_after(page.last)
        return pb.ListSchedulesResponse(schedules=page.messages)

    async def CreateSchedule(
        self, request: pb.CreateScheduleRequest, call: Call
    ) -> pb.CreateScheduleResponse:
        made = await self._schedules.create(
            parse_id(request.workspace_id, "workspace_id"), convert.text(request)
        )
        row = convert.schedule(made)
        return pb.CreateScheduleResponse(
            id=row.id,
            status="created",
            next_run_at=row.next_run_at if row.HasField("next_run_at") else None,
        )

    async def UpdateSchedule(
        self, request: pb.UpdateScheduleRequest, call: Call
    ) -> pb.UpdateScheduleResponse:
        changed = await self._schedules.update(
            parse_id(request.workspace_id, "workspace_id"),
            parse_id(request.schedule_id, "schedule_id"),
            convert.change(request),
        )
        row = convert.schedule(changed)
        return pb.UpdateScheduleResponse(
            id=row.id,
            status="updated",
            next_run_at=row.next_run_at if row.HasField("next_run_at") else None,
        )

    async def DeleteSchedule(
        self, request: pb.DeleteScheduleRequest, call: Call
    ) -> pb.DeleteScheduleResponse:
        schedule_id = parse_id(request.schedule_id, "schedule_id")
        await self._schedules.delete(parse_id(request.workspace_id, "workspace_id"), schedule_id)
        return pb.DeleteScheduleResponse(id=str(schedule_id), status="deleted")

    async def RunSchedule(
        self, request: pb.RunScheduleRequest, call: Call
    ) -> pb.RunScheduleResponse:
        fired = await self._schedules.run(
            parse_id(request.workspace_id, "workspace_id"),
            parse_id(request.schedule_id, "schedule_id"),
            deliver=request.deliver,
        )
        return pb.RunScheduleResponse(
            status="fired",
            workspace_id=request.workspace_id,
            prompt=fired.prompt,
            delegation_id="" if fired.delegation_id is None else str(fired.delegation_id),
        )

    async def ListScheduleRuns(
        self, request: pb.ListScheduleRunsRequest, call: Call
    ) -> pb.ListScheduleRunsResponse:
        page = await self._schedules.history(
            parse_id(request.workspace_id, "workspace_id"),
            parse_id(request.schedule_id, "schedule_id"),
            limit=request.limit,
            page_token=request.page_token,
        )
        if page.last is not None:
            call.headers[_NEXT] = self._schedules.token_after_run(page.last)
        return pb.ListScheduleRunsResponse(runs=[convert.run(row) for row in page.rows])

    async def GetScheduleHealth(
        self, request: pb.GetScheduleHealthRequest, call: Call
    ) -> pb.GetScheduleHealthResponse:
        principal = call.principal
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        stated = request.caller_id or call.caller
        page = await self._health.of_peer(
            principal,
            workspace_id,
            parse_id(stated, "X-Workspace-ID") if stated else None,
            limit=request.limit,
            page_token=request.page_token,
        )
        if page.last is not None:
            call.headers[_NEXT] = self._health.token_after(page.last)
        own = principal.administers or principal.workspace_id == workspace_id
        return pb.GetScheduleHealthResponse(
            schedules=[convert.health(each, own=own) for each in page.rows]
        )

    async def ListScheduleHealth(
        self, request: pb.ListScheduleHealthRequest, call: Call
    ) -> pb.ListScheduleHealthResponse:
        principal = call.principal
        page = await self._health.of_all(
            None if principal.role is Role.OPERATOR else principal.organization_id,
            limit=request.limit,
            page_token=request.page_token,
        )
        if page.last is not None:
            call.headers[_NEXT] = self._health.token_after(page.last)
        return pb.ListScheduleHealthResponse(
            schedules=[convert.health(each, own=True) for each in page.rows]
        )


def handlers(service: SchedulesService) -> tuple[ServiceDescriptor, object]:
    """The descriptor of WorkspaceService with the handlers of this slice."""
    return workspace_service_pb2.DESCRIPTOR.services_by_name["WorkspaceService"], service
