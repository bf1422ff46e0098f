"""Schedules of workspaces."""

from __future__ import annotations

from typing import Any

from moleculeai.workspace.v1 import schedule_pb2 as pb

from molecule_grpc.client.connection import Connection

_PAGE = 500
_RUNS = 200


class Schedules:
    """Calls about schedules.

    Args:
        connection: with an operator's or an organisation's token, or that of the workspace.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of_workspace(self, workspace_id: str) -> list[pb.Schedule]:
        """The schedules of a workspace, by name."""
        request = pb.ListSchedulesRequest(workspace_id=workspace_id, limit=_PAGE)
        pages = self._connection.pages(self._connection.workspaces.ListSchedules, request)
        return [row async for page in pages for row in page.schedules]

    async def create(
        self,
        workspace_id: str,
        cron_expr: str,
        prompt: str,
        *,
        name: str = "",
        timezone: str = "",
        enabled: bool = True,
    ) -> pb.CreateScheduleResponse:
        """Add a schedule.

        Args:
            cron_expr: minute, hour, day of month, month, day of week.
            prompt: what the agent is given, at most 64 KiB.
            timezone: an IANA name; empty for UTC.

        Raises:
            InvalidArgument: names the field.
            AlreadyExists: SCHEDULE_NAME_TAKEN.
            ResourceExhausted: QUOTA_EXCEEDED.
        """
        request = pb.CreateScheduleRequest(
            workspace_id=workspace_id,
            name=name,
            cron_expr=cron_expr,
            timezone=timezone,
            prompt=prompt,
            enabled=enabled,
        )
        return await self._connection.call(
            self._connection.workspaces.CreateSchedule, request, retry=False
        )

    async def update(
        self, workspace_id: str, schedule_id: str, **fields: Any
    ) -> pb.UpdateScheduleResponse:
        """Change fields of a schedule: name, cron_expr, timezone, prompt or enabled.

        Raises:
            NotFound: SCHEDULE_NOT_FOUND.
            AlreadyExists: SCHEDULE_NAME_TAKEN.
        """
        request = pb.UpdateScheduleRequest(
            workspace_id=workspace_id, schedule_id=schedule_id, **fields
        )
        call = self._connection.workspaces.UpdateSchedule
        return await self._connection.call(call, request, retry=True)

    async def delete(self, workspace_id: str, schedule_id: str) -> None:
        """Delete a schedule with its history.

        Raises:
            NotFound: SCHEDULE_NOT_FOUND.
        """
        request = pb.DeleteScheduleRequest(workspace_id=workspace_id, schedule_id=schedule_id)
        await self._connection.call(
            self._connection.workspaces.DeleteSchedule, request, retry=False
        )

    async def run(self, workspace_id: str, schedule_id: str) -> str:
        """Hand the prompt over now; the id of the delegation.

        Raises:
            NotFound: SCHEDULE_NOT_FOUND.
            ResourceExhausted: INBOX_FULL or QUOTA_EXCEEDED.
        """
        request = pb.RunScheduleRequest(
            workspace_id=workspace_id, schedule_id=schedule_id, deliver=True
        )
        call = self._connection.workspaces.RunSchedule
        return (await self._connection.call(call, request, retry=False)).delegation_id

    async def history(
        self, workspace_id: str, schedule_id: str, limit: int = 20
    ) -> list[pb.ScheduleRun]:
        """What became of the last fires, newest first.

        Raises:
            NotFound: SCHEDULE_NOT_FOUND.
        """
        request = pb.ListScheduleRunsRequest(
            workspace_id=workspace_id, schedule_id=schedule_id, limit=min(limit, _RUNS)
        )
        call = self._connection.workspaces.ListScheduleRuns
        return list((await self._connection.call(call, request, retry=True)).runs)

    async def health(self) -> list[pb.ScheduleHealth]:
        """Whether the schedules of the token's organisation fire; an operator's: of all."""
        request = pb.ListScheduleHealthRequest(limit=_PAGE)
        pages = self._connection.pages(self._connection.workspaces.ListScheduleHealth, request)
        return [row async for page in pages for row in page.schedules]
