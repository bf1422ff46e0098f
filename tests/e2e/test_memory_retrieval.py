"""What is asked is found: the benchmark's floors, in its form of 2,000 sections."""

from __future__ import annotations

import pytest

from benchmarks.memory import measure, report
from benchmarks.memory_corpus import corpus
from benchmarks.memory_server import available

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


async def test_the_held_out_half_is_found(database_url: str) -> None:
    """Questions of documentation and identifiers that no weight was chosen on, through a worker and
    its embedder process; where the model is not installed, by words alone."""
    try:
        built = corpus("small")
    except SystemExit as why:
        pytest.skip(str(why))
    embedder = "local" if available("local") else "none"
    found = await measure(built, database_url, embedder, (True,))
    assert report(built, found, semantic=embedder == "local")
