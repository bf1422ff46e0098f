"""Young objects are collected before they are many."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from molecule_grpc.server.process.garbage_collection import collect_youngest_generation


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Nothing is collected but by the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


async def test_the_young_do_not_pile_up() -> None:
    kept = [[n] for n in range(10_000)]
    assert len(gc.get_objects(generation=0)) >= len(kept)
    await collect_youngest_generation()
    assert len(gc.get_objects(generation=0)) < 1_000


async def test_a_cycle_that_nobody_holds_is_freed() -> None:
    class Ring(list["Ring"]):
        """Holds itself."""

    def held() -> int:
        return sum(type(one) is Ring for one in gc.get_objects())

    ring = Ring()
    ring.append(ring)
    assert held() == 1
    del ring
    await collect_youngest_generation()
    assert held() == 0
