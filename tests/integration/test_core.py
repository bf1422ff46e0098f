"""The two threads that serve calls share a core; whatever else a worker does stays free."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from molecule_grpc.server.core import Core

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
    for thread in threading.enumerate():
        os.sched_setaffinity(thread.native_id or 0, allowed)


async def test_the_loop_and_the_poller_share_one_core(poller: int) -> None:
    await Core().settle()
    assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(poller) == os.sched_getaffinity(0)


async def test_the_core_is_chosen_among_all_again(poller: int, everywhere: set[int]) -> None:
    """A second process may have settled on the same one."""
    core = Core()
    await core.settle()
    again = asyncio.create_task(core.settle())
    await asyncio.sleep(0)
    assert os.sched_getaffinity(0) == os.sched_getaffinity(poller) == everywhere
    await again


async def test_threads_of_executors_work_beside_the_loop(poller: int, everywhere: set[int]) -> None:
    core = Core()
    await core.settle()
    with ThreadPoolExecutor(1) as executor:
        worker = executor.submit(threading.get_native_id).result()  # born on the loop's core
        await core.settle()
        assert os.sched_getaffinity(worker) == everywhere


async def test_a_core_that_is_the_only_one_is_left_alone(poller: int) -> None:
    only = {min(os.sched_getaffinity(0))}
    os.sched_setaffinity(0, only)
    await Core().settle()
    assert os.sched_getaffinity(0) == only != os.sched_getaffinity(poller)
