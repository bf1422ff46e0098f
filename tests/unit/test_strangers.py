"""How many unknown tokens an address may send."""

from __future__ import annotations

import pytest

from molecule_grpc.auth import strangers
from molecule_grpc.auth.strangers import StrangerLimit, client_address
from molecule_grpc.kernel.errors import Exhausted


class Clock:
    """A clock moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def charged(limit: StrangerLimit, address: str, most: int = 100) -> int:
    """How many calls pass before one is refused."""
    for count in range(most):
        try:
            limit.charge(address)
        except Exhausted:
            return count
    return most


def test_an_address_has_a_minutes_worth_and_gets_it_back_in_a_minute() -> None:
    clock = Clock()
    limit = StrangerLimit(6, clock)
    assert charged(limit, "a") == 6
    assert charged(limit, "b") == 6
    clock.now += 10
    assert charged(limit, "a") == 1
    clock.now += 600
    assert charged(limit, "a") == 6
    limit.refund("a")
    assert charged(limit, "a") == 1
    for _ in range(50):
        limit.refund("a")
    assert charged(limit, "a") == 6


def test_the_refusal_says_when_to_come_back() -> None:
    limit = StrangerLimit(1)
    limit.charge("a")
    with pytest.raises(Exhausted) as refused:
        limit.charge("a")
    assert refused.value.retry_after == 60


def test_a_network_of_64_bits_is_one_address() -> None:
    limit = StrangerLimit(3)
    assert sum(charged(limit, f"2001:db8:1:2::{number}", most=1) for number in range(9)) == 3
    assert charged(limit, "2001:db8:1:3::1") == 3
    assert charged(limit, "no:address") == 3


def test_without_a_limit_or_an_address_nothing_is_counted() -> None:
    assert charged(StrangerLimit(0), "a") == 100
    assert charged(StrangerLimit(1), "") == 100


def test_addresses_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "_MAX_ADDRESSES", 10)
    limit = StrangerLimit(1)
    for number in range(20):
        limit.charge(str(number))
    assert len(limit._left) == 10
    assert charged(limit, "19") == 0
    assert charged(limit, "0") == 1


@pytest.mark.parametrize(
    ("forwarded", "address"), [("", ""), ("1.2.3.4", "1.2.3.4"), ("9.9.9.9, 1.2.3.4", "1.2.3.4")]
)
def test_the_address_is_the_one_that_the_edge_saw(forwarded: str, address: str) -> None:
    assert client_address({"x-forwarded-for": forwarded}) == address
