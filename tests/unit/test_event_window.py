"""The window of newest events: exact for its own events, and silent about older ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.events.names import EventType
from molecule_grpc.events.values import EVERYTHING, EventPage, Position, Scope, StoredEvent
from molecule_grpc.events.window import EventWindow

ORGANIZATIONS = [UUID(int=1), UUID(int=2)]
WORKSPACES = [UUID(int=11), UUID(int=12)]
KINDS = [EventType.WORKSPACE_ONLINE, EventType.TASK_UPDATED]


def event(
    number: int,
    *,
    organization: UUID = ORGANIZATIONS[0],
    workspace: UUID = WORKSPACES[0],
    kind: EventType = KINDS[0],
    payload: str = "{}",
) -> StoredEvent:
    """Three of them share a transaction."""
    return StoredEvent(
        place=Position(number // 3, number),
        id=UUID(int=1000 + number),
        type=kind,
        organization_id=organization,
        workspace_id=workspace,
        payload=payload,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        kept=kind.kept,
    )


EVENTS = [
    event(
        number,
        organization=ORGANIZATIONS[number % 2],
        workspace=WORKSPACES[number // 2 % 2],
        kind=KINDS[number // 5 % 2],
    )
    for number in range(60)
]
SCOPES = [
    EVERYTHING,
    Scope(ORGANIZATIONS[0], None, ()),
    Scope(ORGANIZATIONS[1], WORKSPACES[1], ()),
    Scope(None, WORKSPACES[0], (KINDS[0],)),
    Scope(None, None, (KINDS[1],)),
]


def page(events: Sequence[StoredEvent]) -> EventPage:
    return EventPage(list(events), events[-1].place, more=False)


def filled(*, max_events: int = 1000, max_bytes: int = 10**6) -> EventWindow:
    window = EventWindow(max_events=max_events, max_bytes=max_bytes)
    window.open(Position(0, -1))
    for start in range(0, len(EVENTS), 7):
        window.append(page(EVENTS[start : start + 7]))
    return window


@pytest.mark.parametrize("scope", SCOPES)
@given(first=st.integers(-1, 59), limit=st.integers(1, 20), max_bytes=st.integers(1, 5000))
def test_pages_put_together_are_what_the_scope_covers(
    scope: Scope, first: int, limit: int, max_bytes: int
) -> None:
    """From any place, with pages of any size: each event once, in order."""
    window = filled()
    place = EVENTS[first].place if first >= 0 else Position(0, -1)
    seen: list[StoredEvent] = []
    more = True
    while more:
        found = window.page_after(place, scope, limit=limit, max_bytes=max_bytes)
        assert found is not None
        assert 1 <= len(found.events) <= limit or not found.more
        assert len(found.events) == 1 or sum(one.size for one in found.events) <= max_bytes
        seen += found.events
        place, more = found.end, found.more
    assert seen == [one for one in EVENTS[first + 1 :] if scope.covers(one)]
    assert place == EVENTS[-1].place


def test_a_reader_before_the_window_is_sent_to_the_tables() -> None:
    """Whether the missed events are in the reader's scope cannot be known here."""
    window = filled(max_events=20)
    assert len(window) <= 20
    oldest = EVENTS[-len(window)].place
    just_before = EVENTS[-len(window) - 1].place
    limits = {"limit": 100, "max_bytes": 10**6}
    assert window.page_after(EVENTS[-len(window) - 2].place, EVERYTHING, **limits) is None
    found = window.page_after(just_before, EVERYTHING, **limits)
    assert found is not None
    assert found.events[0].place == oldest


def test_the_window_is_bounded_by_bytes() -> None:
    window = EventWindow(max_events=1000, max_bytes=10_000)
    window.open(Position(0, -1))
    for number in range(100):
        window.append(page([event(number, payload="x" * 1000)]))
        assert window.size <= 10_000
    assert 1 <= len(window) < 10
    window.append(page([event(100, payload="x" * 20_000)]))
    assert len(window) == window.size == 0
    assert window.end == event(100).place
    assert window.page_after(event(99).place, EVERYTHING, limit=9, max_bytes=9) is None


def test_a_reader_ahead_of_the_window_waits_for_it() -> None:
    """A reader that read the tables later has seen the window's next events."""
    window = filled()
    ahead = Position.behind(40)
    found = window.page_after(ahead, EVERYTHING, limit=9, max_bytes=10**6)
    assert found == EventPage([], ahead, more=False)
    window.append(page([event(100), event(123), event(124)]))
    found = window.page_after(ahead, EVERYTHING, limit=9, max_bytes=10**6)
    assert found is not None
    assert [one.place.position for one in found.events] == [123, 124]


def test_a_closed_window_knows_nothing() -> None:
    window = filled()
    window.close()
    assert window.end is None
    assert len(window) == window.size == 0
    assert window.page_after(EVENTS[-1].place, EVERYTHING, limit=9, max_bytes=10**6) is None
