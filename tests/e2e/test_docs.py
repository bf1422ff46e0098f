"""The commands of README's five minutes, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.running import RunningServer

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a reader has: the address of `make up`, and the folder of this repository.
_ADDRESS = "http://127.0.0.1:8080"


def shell_blocks(page: str, heading: str) -> list[str]:
    """The `sh` blocks of one section of a page."""
    text = (ROOT / page).read_text()
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [found[1] for found in _BLOCK.finditer(section)]


def test_the_five_minutes_of_the_readme_work(
    own_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    """A task goes to the worker, its result comes back, with nothing but the page's commands."""
    server = own_server()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "admin_token").write_text(server.admin_token)
    blocks = shell_blocks("README.md", "Five minutes")
    assert len(blocks) == 3
    script = "set -e\n" + "\n".join(blocks).replace(_ADDRESS, server.url)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MOLECULE_URL": server.url,
        },
        capture_output=True,
        text=True,
        timeout=280,  # twelve starts of the command line
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"applied":true' in done.stdout
    *before, remembered = (line.split("\t") for line in done.stdout.splitlines())
    [result] = [line for line in before if "delegate_result" in line]
    assert (result[2], result[-1]) == ("delegate_result", "612")
    assert remembered[-1] == "The sum of the ledger was 612 on 3 May"
