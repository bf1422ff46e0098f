"""Pure decisions about schedules: what may be stored, and what happens when a time has come."""

from __future__ import annotations

import enum
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.ids import identifier
from molecule_grpc.kernel.text import clean
from molecule_grpc.schedules.times import Unreadable, next_fire, seconds_between_fires, zone
from molecule_grpc.schedules.values import Health, HealthRow, ScheduleText

MAX_PROMPT_BYTES: Final = 64 * 1024
MAX_NAME_BYTES: Final = 255
MAX_EXPRESSION_BYTES: Final = 255
# A busy agent is looked at again after so many seconds, for so long; then the time is skipped.
LOOK_AGAIN: Final = timedelta(seconds=10)
WAIT_FOR_ROOM: Final = timedelta(minutes=2)
# A schedule whose expression can no longer be read is looked at again after so long.
LOOK_AT_UNREADABLE: Final = timedelta(hours=1)
# So many empty results in a row make a schedule `stale`.
STALE_AFTER: Final = 3

PAUSED: Final = "the workspace is paused"
BUSY: Final = "the agent had no room for two minutes"
UNDELIVERED: Final = "the fire before still waits for the agent"
LOST: Final = "the fire could not be handed over"
FORGOTTEN: Final = "the ledger has forgotten how the delegation ended"


def checked(text: ScheduleText) -> ScheduleText:
    """A schedule as it is stored.

    Raises:
        Invalid: names the field.
    """
    name = identifier(text.name, "name") if text.name else ""
    if len(name.encode()) > MAX_NAME_BYTES:
        raise Invalid(f"name must have at most {MAX_NAME_BYTES} bytes", field="name")
    prompt = clean(text.prompt).replace("\r", "")
    if not prompt.strip() or len(prompt.encode()) > MAX_PROMPT_BYTES:
        raise Invalid(
            f"prompt must have 1 to {MAX_PROMPT_BYTES} bytes, and not be blank", field="prompt"
        )
    if len(text.cron_expr.encode()) > MAX_EXPRESSION_BYTES:
        raise Invalid(
            f"cron_expr must have at most {MAX_EXPRESSION_BYTES} bytes", field="cron_expr"
        )
    timezone = text.timezone or "UTC"
    try:
        zone(timezone)
    except Unreadable as error:
        raise Invalid(str(error), field="timezone") from None
    return ScheduleText(name, text.cron_expr, timezone, prompt, text.enabled)


def first_fire(text: ScheduleText, now: datetime) -> datetime:
    """When a checked schedule fires first, were it enabled.

    Raises:
        Invalid: field `cron_expr`.
    """
    try:
        return next_fire(text.cron_expr, text.timezone, now)
    except Unreadable as error:
        raise Invalid(str(error), field="cron_expr") from None


class Due(NamedTuple):
    """What is known of a schedule whose time has come.

    Args:
        due: the time that has come.
        waiting_since: since when it waits for the agent to have room; None at the first look.
        paused: whether the workspace is.
        active: tasks that the agent works on.
        room: tasks that it may work on at once.
        undelivered: whether the agent was not handed the fire before yet.
    """

    cron_expr: str
    timezone: str
    due: datetime
    waiting_since: datetime | None
    paused: bool
    active: int
    room: int
    undelivered: bool


class Step(enum.StrEnum):
    """What is done with a schedule whose time has come."""

    FIRE = "fire"
    SKIP = "skip"
    WAIT = "wait"


class Decision(NamedTuple):
    """What is done, and when the schedule is looked at again.

    Args:
        next_run_at: the next fire; the one that has come, where it waits.
        look_at: when to look at the row again.
        why: of a skip, or of an expression that cannot be read; empty otherwise.
    """

    step: Step
    next_run_at: datetime
    look_at: datetime
    why: str = ""


def decide(due: Due, now: datetime) -> Decision:
    """Whether a due schedule fires, waits or skips, and when it is next due.

    Times that were missed, say while no worker ran, are one fire: the next time is later than now.
    """
    why = PAUSED if due.paused else UNDELIVERED if due.undelivered else ""
    if not why and due.active >= due.room:
        if due.waiting_since is None or now - due.waiting_since < WAIT_FOR_ROOM:
            return Decision(Step.WAIT, due.due, now + LOOK_AGAIN)
        why = BUSY
    try:
        following = next_fire(due.cron_expr, due.timezone, now)
    except Unreadable as error:
        return Decision(Step.WAIT, due.due, now + LOOK_AT_UNREADABLE, str(error))
    return Decision(Step.SKIP if why else Step.FIRE, following, following, why)


def judge(row: HealthRow, now: datetime) -> tuple[Health, float]:
    """Whether a schedule fires as often as it should, and the seconds after which it would not."""
    try:
        threshold = 2 * seconds_between_fires(row.cron_expr, row.timezone, now)
    except Unreadable:
        threshold = 0.0
    if not row.enabled:
        return Health.DISABLED, threshold
    if row.last_run_at is None:
        return Health.NEVER_RUN, threshold
    late = threshold > 0 and (now - row.last_run_at).total_seconds() > threshold
    return (Health.STALE if late else Health.OK), threshold
