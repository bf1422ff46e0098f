"""What happens to a schedule whose time has come, and the verdict on its health."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.schedules import rules
from molecule_grpc.schedules.rules import Due, Step
from molecule_grpc.schedules.values import Health, HealthRow, ScheduleText

NOW = datetime(2026, 6, 1, 12, 0, 20, tzinfo=UTC)
NEXT = datetime(2026, 6, 1, 12, 1, tzinfo=UTC)


def due(**changes: Any) -> Due:
    plain = Due("* * * * *", "UTC", NOW - timedelta(seconds=20), None, False, 0, 1, False)
    return plain._replace(**changes)


def test_a_free_agent_is_given_its_prompt() -> None:
    assert rules.decide(due(), NOW) == (Step.FIRE, NEXT, NEXT, "")


def test_times_that_were_missed_are_one_fire() -> None:
    """The next time is later than now, however long nobody looked."""
    assert rules.decide(due(due=NOW - timedelta(days=3)), NOW) == (Step.FIRE, NEXT, NEXT, "")


def test_a_busy_agent_is_looked_at_every_ten_seconds_for_two_minutes() -> None:
    busy = due(active=2, room=2)
    again = NOW + timedelta(seconds=10)
    assert rules.decide(busy, NOW) == (Step.WAIT, busy.due, again, "")
    waiting = busy._replace(waiting_since=NOW - timedelta(seconds=119))
    assert rules.decide(waiting, NOW) == (Step.WAIT, busy.due, again, "")
    tired = busy._replace(waiting_since=NOW - timedelta(seconds=120))
    assert rules.decide(tired, NOW) == (Step.SKIP, NEXT, NEXT, rules.BUSY)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"paused": True}, rules.PAUSED),
        ({"undelivered": True}, rules.UNDELIVERED),
        ({"paused": True, "active": 9}, rules.PAUSED),
        ({"undelivered": True, "active": 9}, rules.UNDELIVERED),
    ],
)
def test_a_time_is_skipped_at_once(changes: dict[str, Any], why: str) -> None:
    assert rules.decide(due(**changes), NOW) == (Step.SKIP, NEXT, NEXT, why)


def test_an_expression_that_nobody_can_read_any_more_keeps_its_time() -> None:
    decision = rules.decide(due(timezone="Gone/Away"), NOW)
    assert (decision.step, decision.next_run_at) == (Step.WAIT, NOW - timedelta(seconds=20))
    assert "timezone" in decision.why


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, (Health.OK, 600.0)),
        ({"last_run_at": None}, (Health.NEVER_RUN, 600.0)),
        ({"last_run_at": NOW - timedelta(seconds=601)}, (Health.STALE, 600.0)),
        ({"enabled": False, "last_run_at": None}, (Health.DISABLED, 600.0)),
        ({"cron_expr": "nonsense"}, (Health.OK, 0.0)),
    ],
)
def test_the_verdict(changes: dict[str, Any], wanted: tuple[Health, float]) -> None:
    one = UUID(int=1)
    row = HealthRow(one, "w", one, "s", "*/5 * * * *", "UTC", True, NOW, NEXT)
    assert rules.judge(row._replace(**changes), NOW) == wanted


def test_what_is_stored() -> None:
    stored = rules.checked(ScheduleText("", "0 0 * * *", "", "do\r\nthis\r\n"))
    assert (stored.timezone, stored.prompt) == ("UTC", "do\nthis\n")


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name", {"name": "a\nb"}), ("name", {"name": "n" * 256}), ("prompt", {"prompt": " \r\n"}),
        ("prompt", {"prompt": "p" * 65_537}), ("timezone", {"timezone": "Nowhere"}),
        ("cron_expr", {"cron_expr": "0," * 128 + "0 * * * *"}),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_field(field: str, changes: dict[str, Any]) -> None:
    text = ScheduleText("n", "* * * * *", "UTC", "p")
    with pytest.raises(Invalid) as caught:
        rules.checked(replace(text, **changes))
    assert [name for name, _ in caught.value.violations] == [field]
