"""The contract that these tests are about."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.descriptors import Contract

ROOT = Path(__file__).parent.parent.parent
BUF = Path(sys.executable).parent / "buf"


@pytest.fixture(scope="session")
def contract() -> Contract:
    """The contract as it is committed for the edge: without comments."""
    return Contract.load()


@pytest.fixture(scope="session")
def commented(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    """The contract as the protos say it now, with comments."""
    path = tmp_path_factory.mktemp("contract") / "commented.binpb"
    command = [str(BUF), "build", ".", "--as-file-descriptor-set", "-o", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Contract.load(path)
