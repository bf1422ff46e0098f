"""Whatever a test leaves open is told of at the end of its file, and not in a stranger's test.

A socket, task or connection that nobody has closed warns when it is collected, and a warning is an
error. By itself Python collects old objects seldom, in whatever test happens to run.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

# What is loaded stays: collections while the tests are collected find nothing, and take 1.2 s.
gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave out of each collection to come what exists now: the whole program, and all tests."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Collect what the tests of a file have left, after all its other fixtures."""
    yield
    gc.collect()
