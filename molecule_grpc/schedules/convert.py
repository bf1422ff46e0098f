"""Requests to values, and values to responses."""

from __future__ import annotations

from typing import Final

from moleculeai.workspace.v1 import schedule_pb2 as pb

from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.schedules.values import Judged, Run, Schedule, ScheduleChange, ScheduleText

_MAX_MILLISECONDS: Final = 2**31 - 1


def text(request: pb.CreateScheduleRequest) -> ScheduleText:
    """What a new schedule shall be."""
    return ScheduleText(
        name=request.name,
        cron_expr=request.cron_expr,
        timezone=request.timezone,
        prompt=request.prompt,
        enabled=request.enabled if request.HasField("enabled") else True,
    )


def change(request: pb.UpdateScheduleRequest) -> ScheduleChange:
    """The fields that a request names."""
    return ScheduleChange(
        name=request.name if request.HasField("name") else None,
        cron_expr=request.cron_expr if request.HasField("cron_expr") else None,
        timezone=request.timezone if request.HasField("timezone") else None,
        prompt=request.prompt if request.HasField("prompt") else None,
        enabled=request.enabled if request.HasField("enabled") else None,
    )


def schedule(row: Schedule) -> pb.Schedule:
    """A schedule."""
    return pb.Schedule(
        id=str(row.id),
        workspace_id=str(row.workspace_id),
        name=row.name,
        cron_expr=row.cron_expr,
        timezone=row.timezone,
        prompt=row.prompt,
        enabled=row.enabled,
        source=pb.Schedule.Source.Value(row.source),
        last_run_at=timestamp(row.last_run_at),
        next_run_at=timestamp(row.next_run_at),
        run_count=row.run_count,
        last_status=row.last_status,
        last_error=row.last_error,
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
    )


def run(row: Run) -> pb.ScheduleRun:
    """A fire, or a time that was skipped."""
    return pb.ScheduleRun(
        timestamp=timestamp(row.scheduled_for),
        status=row.state,
        error_detail=row.error,
        delegation_id=str(row.id) if row.fired_at is not None else "",
        trigger=pb.ScheduleRun.Trigger.Value(row.trigger),
        fired_at=timestamp(row.fired_at),
        ended_at=timestamp(row.ended_at),
        duration_ms=_milliseconds(row),
        times=row.times,
    )


def health(judged: Judged, *, own: bool) -> pb.ScheduleHealth:
    """The verdict on a schedule.

    Args:
        own: whether the reader may see the cron expression.
    """
    row = judged.row
    return pb.ScheduleHealth(
        workspace_id=str(row.workspace_id),
        workspace_name=row.workspace_name,
        schedule_id=str(row.schedule_id),
        schedule_name=row.schedule_name,
        cron_expr=row.cron_expr if own else "",
        last_run_at=timestamp(row.last_run_at),
        expected_next_run=timestamp(row.next_run_at),
        status=pb.ScheduleHealth.Status.Value(judged.health),
        stale_threshold_seconds=judged.threshold,
    )


def _milliseconds(row: Run) -> int:
    if row.fired_at is None or row.ended_at is None:
        return 0
    taken = (row.ended_at - row.fired_at).total_seconds() * 1000
    return min(_MAX_MILLISECONDS, max(0, int(taken)))
