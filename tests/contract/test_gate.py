"""The gate that a change passes: the whole suite, on a live Postgres."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# A module in which every test opens a database.
NEEDS_POSTGRES = "tests/integration/test_migrate.py"
# Words by which pytest runs less than everything, or hides a failure.
CHOOSING = {"-k", "-m", "--ignore", "--deselect", "--reruns", "--maxfail", "-x", "--lf"}


def test_without_a_live_postgres_the_suite_fails() -> None:
    """D24: it neither skips what needs a database nor replaces the database."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", *_without_plugins(), NEEDS_POSTGRES],
        cwd=ROOT,
        env={**os.environ, "TEST_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 error" in done.stdout
    assert "skipped" not in done.stdout


def test_the_required_check_runs_the_whole_suite() -> None:
    """D24: the last command of `.ci/run` is `make test`, and that leaves no test out."""
    commands = [
        line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")
    ]
    assert commands == ["make test-hosts", "make test"]
    words = _words_of_make_test()
    assert ".venv/bin/pytest" in [word.removeprefix("@") for word in words]
    assert not CHOOSING & set(words)
    assert not [word for word in words if word.startswith("tests")]


def test_the_suite_has_two_processes_more_than_there_are_cores() -> None:
    """Tests wait for servers, clocks and disks: with one more, a third of the CPU idles."""
    words = _words_of_make_test()
    assert words[words.index("-n") + 1] == str(min(len(os.sched_getaffinity(0)) + 2, 8))


def _words_of_make_test() -> list[str]:
    """The commands of `make test`, word by word, as they run where nothing is set."""
    told = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "test"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "PYTEST_WORKERS")},
        capture_output=True,
        text=True,
        check=True,
    )
    return shlex.split(told.stdout.replace("\\\n", " "))


def _without_plugins() -> list[str]:
    """What takes longest to import is not needed here."""
    plugins = ("cacheprovider", "schemathesis", "hypothesispytest", "xdist", "rerunfailures")
    return [word for name in plugins for word in ("-p", f"no:{name}")]
