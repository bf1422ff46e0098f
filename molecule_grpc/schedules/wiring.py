"""Opens the slice for one worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from molecule_grpc.core import Core, Slice
from molecule_grpc.db.pool import Connection
from molecule_grpc.db.sweep import SWEEP_TIMEOUT_SECONDS
from molecule_grpc.directory import TemplateSchedule
from molecule_grpc.schedules import outcomes, scheduler
from molecule_grpc.schedules.health import HealthViews
from molecule_grpc.schedules.outcomes import Outcomes
from molecule_grpc.schedules.ports import Ledger, Workspaces
from molecule_grpc.schedules.scheduler import Scheduler
from molecule_grpc.schedules.schedules import Schedules
from molecule_grpc.schedules.service import SchedulesService, handlers
from molecule_grpc.schedules.templates import TemplateSchedules
from molecule_grpc.server.tasks import BackgroundTask


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulesSlice:
    """What the worker and other slices need of this one.

    Args:
        put_of_template: creates or refreshes schedules that a template names, in the caller's
            transaction; returns name and reason of each that is left out.
    """

    slice: Slice
    put_of_template: Callable[
        [Connection, UUID, Sequence[TemplateSchedule]], Awaitable[list[tuple[str, str]]]
    ]


class _Alarm:
    """Wakes a task at the nearest of the times that were asked for."""

    def __init__(self) -> None:
        self.task: BackgroundTask | None = None
        self._timer: asyncio.TimerHandle | None = None

    def ring_in(self, seconds: float) -> None:
        """Run the task in so many seconds, if nothing wakes it earlier."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.ring)

    def ring(self) -> None:
        """Run the task now."""
        if self.task is not None:
            self.task.nudge()


def open_schedules(core: Core, workspaces: Workspaces, ledger: Ledger) -> SchedulesSlice:
    """The slice.

    Args:
        ledger: takes the fires.
    """
    alarm = _Alarm()
    firing = Scheduler(core.pool, ledger, alarm.ring_in)
    alarm.task = BackgroundTask(
        scheduler.NAME, scheduler.PERIOD_SECONDS, firing.step, timeout=SWEEP_TIMEOUT_SECONDS
    )
    schedules = Schedules(core.pool, ledger, core.page_tokens, core.quotas, alarm.ring)
    health = HealthViews(core.pool, workspaces.directory, core.page_tokens)
    ends = Outcomes(core.pool, ledger, retention_days=core.settings.retention.schedule_runs)
    workspaces.on_remove(schedules.disable_all)
    workspaces.on_uses(schedules.quota_uses)
    return SchedulesSlice(
        slice=Slice(
            handlers=[handlers(SchedulesService(schedules, health))],
            tasks=[
                alarm.task,
                BackgroundTask(outcomes.OUTCOMES_NAME, outcomes.OUTCOMES_SECONDS, ends.settle),
                BackgroundTask(
                    outcomes.RETENTION_NAME,
                    core.settings.retention.sweep,
                    ends.sweep,
                    timeout=SWEEP_TIMEOUT_SECONDS,
                ),
            ],
        ),
        put_of_template=TemplateSchedules(core.quotas, alarm.ring).put,
    )
