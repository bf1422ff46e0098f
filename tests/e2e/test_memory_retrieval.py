"""What is asked is found: the benchmark's floors, in its form of 2,000 sections."""

from __future__ import annotations

import pytest

from benchmarks.memory import measure, report
from benchmarks.memory_corpus import corpus
from benchmarks.memory_server import available
from tests.conftest import LONG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


async def test_the_held_out_half_is_found(database_url: str) -> None:
    """Questions of documentation and identifiers that no weight was chosen on, by words alone; the
    long form by meaning, too, through the embedder process: four minutes of processor time."""
    try:
        built = corpus("small")
    except SystemExit as why:
        pytest.skip(str(why))
    embedder = "local" if LONG and available("local") else "none"
    found = await measure(built, database_url, embedder, (True,))
    assert report(built, found, semantic=embedder == "local")
