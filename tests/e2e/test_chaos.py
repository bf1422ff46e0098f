"""The short form of `benchmarks/chaos.py`: kills under load, and what the checker finds."""

from __future__ import annotations

import asyncio
import sys

import pytest


@pytest.mark.timeout(300)
async def test_kills_lose_nothing_and_double_nothing() -> None:
    """P1, P2, P3, P5, I-LG-1: delegations, files, a followed inbox, revoked tokens, purges."""
    words = ["--delegations=100", "--kills=3", "--postgres=1", "--pairs=2", "--seed=7"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.chaos",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
