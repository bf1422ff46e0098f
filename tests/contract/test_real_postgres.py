"""The suite's database is a real Postgres. That every test of it runs is `test_gate.py`'s."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from molecule_grpc.db.migrate import load
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.postgres_version import is_supported
from tests.conftest import MIGRATIONS

TESTS = Path(__file__).parent.parent
_DATABASE = re.compile("database|postgres|dsn|connect", re.IGNORECASE)


async def test_handlers_auth_and_migrations_are_tested_on_a_real_postgres(pool: Pool) -> None:
    """W58: of a version that we support, with every migration on it, by number and name."""
    assert (await pool.fetchval("SELECT version()")).startswith("PostgreSQL ")
    assert is_supported(int(await pool.fetchval("SHOW server_version_num")))
    rows = await pool.fetch("SELECT version, name FROM schema_migrations ORDER BY version")
    files = sorted(MIGRATIONS.glob("*.up.sql"))
    applied = [f"{row['version']:04}_{row['name']}.up.sql" for row in rows]
    assert applied == [path.name for path in files]
    assert len(load(MIGRATIONS)) == len(files)


def test_no_test_skips_itself_for_want_of_a_database() -> None:
    """W58: where none is given, the suite starts one."""
    skips = [
        ast.unparse(node)
        for path in TESTS.rglob("*.py")
        if path != Path(__file__)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and "skip" in ast.unparse(node.func)
    ]
    assert skips
    assert [skip for skip in skips if _DATABASE.search(skip)] == []
