"""What the check of a fresh clone runs."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.postgres_version import is_supported

ROOT = Path(__file__).parent.parent.parent
# What makes pytest leave tests out, or end well although some failed.
_NARROWING = re.compile(
    r"(^|\s)(-k|-m|--deselect|--ignore|--ignore-glob|--maxfail|tests/)|\|\| *true"
)


def test_the_check_of_a_clone_runs_every_test() -> None:
    """W58: `.ci/run` ends in `make test`, which hands pytest neither a folder nor an exception."""
    commands = [
        line
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert commands[-1] == "make test"
    assert "set -euo pipefail" in commands
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    recipe = subprocess.run(
        ["make", "--dry-run", "test"],
        cwd=ROOT,
        env=clean | {"ARGS": ""},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    [pytest_line] = [line for line in recipe.splitlines() if "bin/pytest" in line]
    assert not _NARROWING.search(pytest_line), pytest_line


def test_no_test_of_the_database_is_left_out_where_there_is_none() -> None:
    """W58: without a database the suite starts one; no fixture and no file skips itself instead."""
    skips = [
        ast.unparse(node)
        for path in (ROOT / "tests").rglob("*.py")
        if path != Path(__file__)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and "skip" in ast.unparse(node.func)
    ]
    for_want_of_a_database = re.compile("database|postgres|dsn|connect", re.IGNORECASE)
    assert [skip for skip in skips if for_want_of_a_database.search(skip)] == []


def test_no_request_of_a_test_is_given_up_after_5_s() -> None:
    """httpx' own limit, which a starved machine passes: every request and client names another."""
    calls = re.compile(r"httpx2?\.(AsyncClient|Client|request|stream|get|post|put|patch|delete)$")
    unnamed = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and calls.match(ast.unparse(node.func))
        if "timeout" not in {keyword.arg for keyword in node.keywords}
    ]
    assert unnamed == []


async def test_the_database_of_the_suite_is_a_real_postgres(pool: Pool) -> None:
    """W58: of a version that we support, with all migrations on it."""
    assert (await pool.fetchval("SELECT version()")).startswith("PostgreSQL ")
    assert is_supported(int(await pool.fetchval("SHOW server_version_num")))
    files = {path.name.removesuffix(".up.sql") for path in (ROOT / "migrations").glob("*.up.sql")}
    applied = await pool.fetchval("SELECT count(*) FROM schema_migrations")
    assert applied == len(files)


def test_the_check_of_a_clone_runs_what_concerns_hosts_on_the_other_one() -> None:
    """`make test` has the handlers where the default puts them; each file that is named exists."""
    commands = (ROOT / ".ci" / "run").read_text().splitlines()
    assert "make test-hosts" in commands
    recipe = subprocess.run(
        ["make", "--dry-run", "test-hosts"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    [pytest_line] = [line for line in recipe.splitlines() if "bin/pytest" in line]
    assert pytest_line.startswith("MOLECULE_HOST_MODE=grpc ")
    named = re.findall(r"tests/e2e/test_\w+\.py", pytest_line)
    assert len(named) >= 5
    assert [name for name in named if not (ROOT / name).exists()] == []
