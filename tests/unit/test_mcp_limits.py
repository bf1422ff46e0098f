"""Windows of a minute, counted for each token."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.faces.mcp.limits import RateLimit


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_may_send_what_its_window_holds() -> None:
    limit = RateLimit(3, Clock())
    readings = [limit.charge(b"a") for _ in range(4)]
    assert [(one.allowed, one.remaining) for one in readings] == [
        (True, 2),
        (True, 1),
        (True, 0),
        (False, 0),
    ]
    assert limit.charge(b"b").allowed


def test_a_window_begins_with_its_first_message_and_lasts_a_minute() -> None:
    clock = Clock()
    limit = RateLimit(1, clock)
    assert limit.charge(b"a").reset_seconds == 60
    clock.now += 59.5
    last = limit.charge(b"a")
    assert (last.allowed, last.reset_seconds) == (False, 1)
    clock.now += 0.5
    assert limit.charge(b"a").allowed


def test_too_many_at_once_count_nothing() -> None:
    """Else a batch that was refused would use up what single messages could have."""
    limit = RateLimit(5, Clock())
    assert not limit.charge(b"a", 6).allowed
    assert limit.charge(b"a", 5).remaining == 0


def test_tokens_that_are_silent_are_forgotten() -> None:
    """Memory holds the tokens of a minute or two, however many there are in a day."""
    clock = Clock()
    limit = RateLimit(5, clock)
    for name in range(100):
        limit.charge(str(name).encode())
    clock.now += 61
    limit.charge(b"a")
    assert len(limit) == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 5), st.floats(0, 30))))
def test_no_minute_from_a_first_message_holds_more_than_the_limit(
    steps: list[tuple[str, int, float]],
) -> None:
    clock = Clock()
    limit = RateLimit(7, clock)
    windows: dict[str, tuple[float, int]] = {}
    for token, messages, pause in steps:
        clock.now += pause
        end, used = windows.get(token, (0.0, 0))
        if clock.now >= end:
            end, used = clock.now + 60, 0
        expected = used + messages <= 7
        reading = limit.charge(token.encode(), messages)
        assert reading.allowed == expected
        assert 1 <= reading.reset_seconds <= 60
        windows[token] = (end, used + messages if expected else used)
        assert reading.remaining == 7 - windows[token][1]
