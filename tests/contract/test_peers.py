"""The Go programs that the product is measured beside compile against today's generated stubs.

TEST_LONG=1 compiles them, and so does `python -m benchmarks.peers`.
"""

from __future__ import annotations

import subprocess

import pytest

from benchmarks.peers.programs import GO_MODULE, Missing, go_command
from tests.authorities import BEFORE
from tests.conftest import LONG

# Compiling all their libraries for the first time takes two minutes of two busy cores.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not LONG, reason="two minutes of two cores: TEST_LONG=1 compiles the peers"),
]


@pytest.fixture(scope="module")
def go() -> str:
    """Where Go is, with the modules of the peers at hand; otherwise the tests are skipped."""
    try:
        command = go_command()
    except Missing as why:
        pytest.skip(str(why))
    if _run(command, "mod", "download").returncode:
        pytest.skip("the Go modules of the peers cannot be had")
    return command


def test_the_go_peers_compile(go: str) -> None:
    """`go vet` finds nothing in the server and the client."""
    checked = _run(go, "vet", "./...")
    assert checked.returncode == 0, checked.stderr


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=GO_MODULE, env=BEFORE, capture_output=True, text=True, check=False
    )
