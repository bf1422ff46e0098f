"""What commands load before they do anything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("command", "loads"), [("up", False), ("migrate", False), ("doctor", False), ("serve", True)]
)
def test_only_a_worker_loads_what_serves_calls(command: str, loads: bool) -> None:
    """The application takes a second of CPU and 45 MB: `up` starts workers, and is none itself."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "molecule_grpc.cli.main", command],
        env={**os.environ, "PORT": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "PORT='none' cannot be used" in done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert ("molecule_grpc.app" in loaded) is loads
    # Half a second more, which the first agent that speaks the protocol waits for.
    assert "mcp_types" not in loaded
