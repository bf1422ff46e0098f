"""When schedules fire over the changes of the clock, compared with what the time zones say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.schedules.times import Unreadable, next_fire, seconds_between_fires, zone

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# Changes of an hour and of half an hour, at midnight, in both hemispheres; a day that never was.
ZONES = [
    "Africa/Casablanca", "America/New_York", "America/Santiago", "America/St_Johns",
    "Asia/Beirut", "Australia/Lord_Howe", "Europe/Berlin", "Pacific/Apia", "UTC",
]  # fmt: skip


def change_after(name: str, moment: datetime) -> datetime:
    """The first hour after which the clock of a zone is another one; a year later without any."""
    tz = ZoneInfo(name)
    before = moment.astimezone(tz).utcoffset()
    for hours in range(365 * 24):
        now = moment + hours * HOUR
        if now.astimezone(tz).utcoffset() != before:
            return now
    return moment + 365 * DAY


def shown(name: str, begin: datetime, end: datetime) -> dict[datetime, datetime]:
    """Each minute that the clock on the wall shows, and when it does so for the first time."""
    tz, found = ZoneInfo(name), dict[datetime, datetime]()
    moment = begin
    while moment < end:
        wall = moment.astimezone(tz).replace(tzinfo=None, fold=0)
        found.setdefault(wall, moment)
        moment += MINUTE
    return found


def expected(
    name: str, minutes: set[int], hours: set[int], begin: datetime, end: datetime
) -> list[datetime]:
    """Fires of these minutes of these hours: what is shown twice once, what is skipped at once."""
    first = shown(name, begin - 4 * HOUR, end + 2 * DAY)
    walls = sorted(first)
    fires = set()
    wall = walls[0]
    while wall < walls[-1]:
        if wall.minute in minutes and wall.hour in hours:
            later = wall
            while later not in first:
                later += MINUTE
            fires.add(first[later])
        wall += MINUTE
    return sorted(each for each in fires if begin < each < end)


def fires(expression: str, name: str, begin: datetime, end: datetime) -> list[datetime]:
    """All fires between two moments."""
    found = []
    moment = next_fire(expression, name, begin)
    while moment < end:
        found.append(moment)
        moment = next_fire(expression, name, moment)
    return found


def listed(numbers: set[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


@given(
    name=st.sampled_from(ZONES),
    year=st.integers(2006, 2034),
    month=st.integers(1, 12),
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=4),
    lead=st.integers(0, 40),
)
def test_times_of_a_day_follow_the_clock_on_the_wall(
    name: str, year: int, month: int, minutes: set[int], hours: set[int], lead: int
) -> None:
    """A skipped time fires once, when the gap is over; a repeated one fires the first time only."""
    change = change_after(name, datetime(year, month, 1, tzinfo=UTC))
    begin, end = change - lead * HOUR, change + 30 * HOUR
    expression = f"{listed(minutes)} {listed(hours)} * * *"
    assert fires(expression, name, begin, end) == expected(name, minutes, hours, begin, end)


@given(
    name=st.sampled_from(ZONES),
    year=st.integers(2006, 2034),
    month=st.integers(1, 12),
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=4),
)
def test_every_hour_follows_real_time(name: str, year: int, month: int, minutes: set[int]) -> None:
    """With `*` for the hour nothing falls silent and nothing is made up for."""
    tz = ZoneInfo(name)
    change = change_after(name, datetime(year, month, 1, tzinfo=UTC))
    begin, end = change - 5 * HOUR, change + 5 * HOUR
    wanted = [
        moment
        for number in range(1, 600)
        if (moment := begin + number * MINUTE).astimezone(tz).minute in minutes
    ]
    assert fires(f"{listed(minutes)} * * * *", name, begin, end) == wanted


@given(
    name=st.sampled_from(ZONES),
    seconds=st.integers(1_136_073_600, 2_019_686_400),
    expression=st.sampled_from(
        ["* * * * *", "30 2 * * *", "*/7 0-4 * * *", "0 */3 * * 1-5", "15 1 L * *", "0 0 29 2 *"]
    ),
)
def test_a_fire_is_later_than_what_it_follows(name: str, seconds: int, expression: str) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    assert next_fire(expression, name, moment) > moment


def test_half_past_two_in_berlin() -> None:
    """The two nights that everybody asks about."""
    spring = fires("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28, 2, tzinfo=UTC),
                   datetime(2026, 3, 31, tzinfo=UTC))  # fmt: skip
    assert [each.isoformat()[:16] for each in spring] == ["2026-03-29T01:00", "2026-03-30T00:30"]
    autumn = fires("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 24, 2, tzinfo=UTC),
                   datetime(2026, 10, 27, tzinfo=UTC))  # fmt: skip
    assert [each.isoformat()[:16] for each in autumn] == ["2026-10-25T00:30", "2026-10-26T01:30"]


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "five fields"), ("* * * *", "five fields"), ("* * * * * *", "five fields"),
        ("@daily", "five fields"), ("\uff11 * * * *", "five fields"), ("60 * * * *", "minute"),
        ("* 24 * * *", "hour"), ("0 0 30 2 *", "day-of-month"), ("* * * 13 *", "month"),
        ("* * * * MON-", "day-of-week"), ("*/0 * * * *", "minute"), ("5-1 * * * *", "minute"),
        ("1,,2 * * * *", "minute"), (f"{'9' * 200} * * * *", "minute"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(expression: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        next_fire(expression, "UTC", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "name", ["", "Mars", "../etc/passwd", "/etc/localtime", "Europe/", "UTC\n"]
)
def test_a_time_zone_is_one_of_the_database(name: str) -> None:
    with pytest.raises(Unreadable, match="IANA"):
        zone(name)


def test_the_gap_between_two_fires() -> None:
    monday = datetime(2026, 6, 1, tzinfo=UTC)
    assert seconds_between_fires("*/5 * * * *", "UTC", monday) == 300
    assert seconds_between_fires("0 9 * * MON", "Europe/Berlin", monday) == 7 * 86_400
