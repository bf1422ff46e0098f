"""Where sessions of tests keep their files, when several run at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_COMMAND = [
    *(sys.executable, "-m", "pytest", "-q", "-c", os.devnull),
    *("-p", "tests.places", "-p", "no:cacheprovider"),
]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

_LEAVES_A_FILE = """
def test_leaves_a_file(tmp_path):
    (tmp_path / "file").touch()
"""
# As the embedded Postgres does, it opens the way to its files. Then it starts sessions.
_STARTS_OTHERS = f"""
import pathlib, subprocess, tempfile

def test_starts_others(tmp_path):
    temporary = pathlib.Path(tempfile.gettempdir())
    way = [tmp_path, *(step for step in tmp_path.parents if step.is_relative_to(temporary))]
    for step in way:
        step.chmod(step.stat().st_mode | 0o001)
    for _ in range(4):
        subprocess.run({_COMMAND} + ["test_leaves_a_file.py"], check=True)
    assert [step for step in way if not step.stat().st_mode & 0o001] == []
"""


def test_a_session_neither_shuts_nor_removes_what_another_uses(tmp_path: Path) -> None:
    """Nor do files pile up: those of the last three sessions that ended stay."""
    (tmp_path / "test_leaves_a_file.py").write_text(_LEAVES_A_FILE)
    (tmp_path / "test_starts_others.py").write_text(_STARTS_OTHERS)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [*_COMMAND, "test_starts_others.py"],
        cwd=tmp_path,
        env={**_ENVIRONMENT, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(temporary.rglob("file"))) == 3


def test_a_directory_that_was_asked_for_is_taken(tmp_path: Path) -> None:
    (tmp_path / "test_leaves_a_file.py").write_text(_LEAVES_A_FILE)
    subprocess.run(
        [*_COMMAND, "--basetemp", "asked", "test_leaves_a_file.py"],
        cwd=tmp_path,
        env=_ENVIRONMENT,
        check=True,
    )
    assert list((tmp_path / "asked").rglob("file"))
