"""Schedules, their fires and their health, as values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID


class State(enum.StrEnum):
    """How far a fire is. The values are on the wire."""

    CLAIMED = "claimed"
    RUNNING = "running"
    OK = "ok"
    ERROR = "error"
    SKIPPED = "skipped"


# What `last_status` says after several empty results in a row, instead of `ok`.
STALE = "stale"


class Health(enum.StrEnum):
    """Whether a schedule fires as often as it should. The values are on the wire."""

    OK = "ok"
    STALE = "stale"
    NEVER_RUN = "never_run"
    DISABLED = "disabled"


class Schedule(NamedTuple):
    """A row of `workspace_schedules`. The names are those of the columns."""

    id: UUID
    workspace_id: UUID
    name: str
    cron_expr: str
    timezone: str
    prompt: str
    enabled: bool
    source: str
    last_run_at: datetime | None
    next_run_at: datetime | None
    run_count: int
    last_status: str
    last_error: str
    created_at: datetime
    updated_at: datetime

    @property
    def text(self) -> ScheduleText:
        """What its maker wanted."""
        return ScheduleText(self.name, self.cron_expr, self.timezone, self.prompt, self.enabled)


class Run(NamedTuple):
    """A row of `schedule_runs`. The names are those of the columns."""

    id: UUID
    trigger: str
    scheduled_for: datetime
    state: State
    error: str
    times: int
    fired_at: datetime | None
    ended_at: datetime | None


class HealthRow(NamedTuple):
    """What the health of a schedule is judged by."""

    workspace_id: UUID
    workspace_name: str
    schedule_id: UUID
    schedule_name: str
    cron_expr: str
    timezone: str
    enabled: bool
    last_run_at: datetime | None
    next_run_at: datetime | None


class Judged(NamedTuple):
    """A schedule with the verdict on it."""

    row: HealthRow
    health: Health
    threshold: float


@dataclass(frozen=True, slots=True)
class ScheduleText:
    """What somebody wants of a schedule, not checked yet.

    Args:
        timezone: empty for UTC.
    """

    name: str
    cron_expr: str
    timezone: str
    prompt: str
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class ScheduleChange:
    """Fields of a schedule to change; None leaves one as it is."""

    name: str | None = None
    cron_expr: str | None = None
    timezone: str | None = None
    prompt: str | None = None
    enabled: bool | None = None
