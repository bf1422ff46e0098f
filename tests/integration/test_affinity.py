"""gRPC's polling thread follows the loop; whatever else a worker does stays free."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from molecule_grpc.server.hosts.scheduling import Affinity

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two cores",
)


@pytest.fixture
def poller() -> Iterator[int]:
    """A thread like gRPC's, by its number."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait, daemon=True)
    thread.start()
    assert thread.native_id
    yield thread.native_id
    end.set()
    thread.join()


@pytest.fixture(autouse=True)
def everywhere() -> Iterator[set[int]]:
    """The cores of this process, given back when the test ends."""
    allowed = os.sched_getaffinity(0)
    yield allowed
    os.sched_setaffinity(0, allowed)


async def test_the_poller_goes_where_the_loop_goes(poller: int, everywhere: set[int]) -> None:
    affinity = Affinity()
    for core in [*everywhere, *everywhere]:
        os.sched_setaffinity(0, {core})
        await affinity.follow()
        assert os.sched_getaffinity(poller) == {core}


async def test_the_loop_and_what_it_starts_stay_free(poller: int, everywhere: set[int]) -> None:
    await Affinity().follow()
    assert os.sched_getaffinity(0) == everywhere
    born: list[set[int]] = []
    thread = threading.Thread(target=lambda: born.append(os.sched_getaffinity(0)))
    thread.start()
    thread.join()
    assert born == [everywhere]


async def test_a_core_that_is_the_only_one_is_left_alone(poller: int) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    before = os.sched_getaffinity(poller)
    await Affinity().follow()
    assert os.sched_getaffinity(poller) == before


async def test_the_poller_does_not_interrupt_the_loop(poller: int) -> None:
    Affinity()
    assert os.sched_getscheduler(poller) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
