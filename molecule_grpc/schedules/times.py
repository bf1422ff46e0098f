"""When a cron expression fires, in a time zone, over the changes of its clock."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_FIELDS: Final = 5
_HOUR: Final = 1
# Letters of the expression: what else could reach the parser as a digit or a blank is refused.
_EXPRESSION: Final = re.compile(r"[0-9A-Za-z*/,#\t -]+")
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,3}")
_SECOND: Final = timedelta(seconds=1)
_MINUTE: Final = timedelta(minutes=1)
# No clock was ever changed by more than a day.
_MOST_CHANGE: Final = timedelta(hours=26)


class Unreadable(ValueError):
    """A cron expression or a time zone that is none. Its text is for the caller."""


def zone(name: str) -> ZoneInfo:
    """A time zone of the IANA database.

    Raises:
        Unreadable: there is none of this name.
    """
    if _ZONE.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, LookupError):
            pass
    raise Unreadable("timezone must be the name of an IANA time zone, such as Europe/Berlin")


def next_fire(expression: str, timezone: str, after: datetime) -> datetime:
    """The first moment later than `after` at which a schedule fires, in UTC.

    An expression whose hour is `*` follows real time: a minute-by-minute schedule fires each minute
    of the night on which the clock is changed. Any other one follows the clock on the wall: times
    of an hour that is skipped fire once, when the hour is over, and times of an hour that is
    repeated fire the first time only.

    Raises:
        Unreadable: the expression or the time zone is none, or the time never comes.
    """
    tz = zone(timezone)
    if _fields(expression)[_HOUR] == "*":
        return _in_real_time(expression, tz, after)
    wall = after.astimezone(tz).replace(tzinfo=None)
    while True:
        wall = _first(expression, wall)
        moment = _on_the_clock(wall, tz)
        if moment > after:
            return moment


def seconds_between_fires(expression: str, timezone: str, after: datetime) -> float:
    """Seconds between the next two fires.

    Raises:
        Unreadable: as `next_fire`.
    """
    first = next_fire(expression, timezone, after)
    return (next_fire(expression, timezone, first) - first).total_seconds()


def _in_real_time(expression: str, tz: ZoneInfo, after: datetime) -> datetime:
    """The first moment later than `after` at which the clock shows what the expression names."""
    offset = _offset(tz, after)
    while True:
        wall = _first(expression, (after + offset).replace(tzinfo=None))
        moment = wall.replace(tzinfo=UTC) - offset
        end = min(moment, after + _MOST_CHANGE)
        if _offset(tz, end) != offset:
            # The clock changes before `end`: go on from the change with the new offset.
            change = _change(tz, after, end)
            after, offset = change - _SECOND, _offset(tz, change)
        elif moment == end:
            return moment
        else:
            # No other change of the clock brings the expression forward by more than that.
            after = moment - _MOST_CHANGE
            offset = _offset(tz, after)


def _change(tz: ZoneInfo, before: datetime, behind: datetime) -> datetime:
    """The second at which the clock is changed, between two moments with one change."""
    old = _offset(tz, before)
    low, high = math.floor(before.timestamp()), math.ceil(behind.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(tz, datetime.fromtimestamp(middle, UTC)) == old:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)


def _offset(tz: ZoneInfo, moment: datetime) -> timedelta:
    offset = moment.astimezone(tz).utcoffset()
    assert offset is not None
    return offset


def _fields(expression: str) -> list[str]:
    fields = expression.split() if _EXPRESSION.fullmatch(expression) else []
    if len(fields) != _FIELDS:
        raise Unreadable(
            "cron_expr must have five fields: minute, hour, day of month, month, day of week"
        )
    return fields


def _first(expression: str, after: datetime) -> datetime:
    """The first time after another one, both without a time zone: to `cronsim` no clock changes."""
    try:
        return next(CronSim(expression, after))
    except StopIteration:
        raise Unreadable("cron_expr names a time that never comes") from None
    except (CronSimError, ValueError, OverflowError) as error:
        raise Unreadable(f"cron_expr cannot be read: {error}") from None


def _on_the_clock(wall: datetime, tz: ZoneInfo) -> datetime:
    """When the clock shows a time for the first time, or has passed it by."""
    while True:
        moment = wall.replace(tzinfo=tz).astimezone(UTC)
        if moment.astimezone(tz).replace(tzinfo=None, fold=0) == wall:
            return moment
        wall += _MINUTE
