"""The server's role: rows are its to read and write; the schema and the audit log are not."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from molecule_grpc.auth import audit_store
from molecule_grpc.db.migrate import migrate
from molecule_grpc.db.pool import Connection, connect_pool
from molecule_grpc.db.roles import RoleError, audit_rights, grant
from molecule_grpc.kernel.ids import new_id
from tests.conftest import MIGRATIONS, as_server, execute


def aged(days: float) -> audit_store.AuditEntry:
    at = datetime.now(UTC) - timedelta(days=days)
    return audit_store.AuditEntry(
        new_id(), at, "operator", "", None, None, "x", "", "OK", "", "", "", 1
    )


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[Connection]:
    """A connection as a worker has one, and an entry in the log."""
    pool = await connect_pool(as_server(database_url), min_size=1, max_size=1)
    await audit_store.append(pool, [aged(0)])
    async with pool.acquire() as connection:
        yield connection
    await pool.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET party = 'x'",
        "UPDATE audit_log SET party = 'x' WHERE at < now() - interval '30 days'",
        "DELETE FROM audit_log",
        "DELETE FROM audit_log WHERE at < now() - interval '30 days'",
        "TRUNCATE audit_log",
        "SELECT FROM audit_log FOR UPDATE",
        "DROP TABLE audit_log",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "CREATE TRIGGER t BEFORE INSERT ON audit_log EXECUTE FUNCTION audit_log_is_append_only()",
        "SET ROLE molecule_audit",
        "SET ROLE molecule",
        "ALTER FUNCTION drop_audit_entries(integer, integer) RENAME TO x",
        "CREATE TABLE t ()",
        "DELETE FROM schema_migrations",
        "COPY audit_log TO PROGRAM 'cat'",
    ],
)
async def test_server_is_refused_what_its_owner_may(server: Connection, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError) as refused:
        await server.execute(statement)
    assert "append-only" not in str(refused.value)  # the trigger is not even asked


async def test_server_drops_no_entry_of_the_last_seven_days(database_url: str) -> None:
    pool = await connect_pool(as_server(database_url), min_size=1, max_size=1)
    await audit_store.append(pool, [aged(days) for days in (0, 6.9, 7.1, 40)])
    assert await audit_store.drop_old(pool, days=30, limit=10) == 1
    for days in (0, -(10**6)):
        await audit_store.drop_old(pool, days=days, limit=10)
    left = await audit_store.newest(
        pool, organization_id=None, workspace_id=None, before=None, limit=10
    )
    await pool.close()
    assert len(left) == 2


async def test_a_table_of_the_server_that_hides_the_log_is_not_what_retention_empties(
    server: Connection,
) -> None:
    await server.execute("CREATE TEMP TABLE audit_log AS SELECT * FROM public.audit_log")
    await server.execute("UPDATE audit_log SET at = at - interval '30 days'")
    await server.execute("SET search_path = pg_temp, public")
    assert await server.fetchval("SELECT public.drop_audit_entries(7, 10)") == 0


async def test_rights_are_told(database_url: str) -> None:
    told = []
    for dsn in (database_url, as_server(database_url)):
        connection = await asyncpg.connect(dsn)
        told.append(await audit_rights(connection))
        await connection.close()
    assert told == [
        ("molecule_audit", "molecule", True),
        ("molecule_audit", "molecule_server", False),
    ]


async def test_the_server_finds_its_schema_up_to_date(database_url: str) -> None:
    assert await migrate(as_server(database_url), MIGRATIONS) == []


async def test_an_operators_role_is_granted_what_a_server_needs(database_url: str) -> None:
    role = f"Server {uuid.uuid4().hex[:8]}"  # needs quotes
    await execute(database_url, f'CREATE ROLE "{role}"')
    try:
        for _ in range(2):
            await grant(database_url, role)
        connection = await asyncpg.connect(database_url)
        rights = [
            await connection.fetchval("SELECT has_table_privilege($1, $2, $3)", role, table, right)
            for table in ("workspaces", "audit_log")
            for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")
        ]
        await connection.close()
        assert rights == [True] * 4 + [False] + [True] * 2 + [False] * 3
    finally:
        await execute(database_url, f'DROP OWNED BY "{role}"')
        await execute(database_url, f'DROP ROLE "{role}"')


async def test_the_owner_is_no_servers_role(database_url: str) -> None:
    with pytest.raises(RoleError, match="another role"):
        await grant(database_url, "molecule")
