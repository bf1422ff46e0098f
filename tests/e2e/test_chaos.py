"""The short forms of `benchmarks/chaos.py` and `benchmarks/faults.py`."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.conftest import LONG

pytestmark = pytest.mark.slow


async def succeeds(module: str, *words: str) -> None:
    """Run a benchmark that ends with status 0 unless a promise was broken."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def test_kills_lose_nothing_and_double_nothing() -> None:
    """P1, P2, P3, P5, I-LG-1: delegations, files, a followed inbox, revoked tokens, purges."""
    sizes = ["--delegations=100", "--kills=3"] if LONG else ["--delegations=50", "--kills=2"]
    await succeeds("benchmarks.chaos", *sizes, "--postgres=1", "--pairs=2", "--seed=7")


async def test_work_that_was_accepted_ends_after_all_processes_died_or_froze() -> None:
    """Worker, edge and Postgres at one moment, then a frozen worker: nobody helps."""
    await succeeds("benchmarks.faults", "--faults=kill worker, edge and postgres;freeze worker")
