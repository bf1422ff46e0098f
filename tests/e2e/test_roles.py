"""The embedded Postgres: workers connect as a role that owns nothing."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from molecule_grpc.db.embedded.processes import processes_in, send
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.migrate import migrate
from tests.conftest import MIGRATIONS, execute
from tests.e2e.parties import found, wire_to
from tests.running import RunningServer
from tests.waiting import until

pytestmark = pytest.mark.slow

_ENTRY = """
    INSERT INTO audit_log VALUES (gen_random_uuid(), now() - interval '30 days', 'operator', '',
                                  NULL, NULL, 'Old', '', 'OK', '', '', '', 1)
"""


@pytest.fixture
async def upgraded(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server over a data directory of a version that knew one role, the superuser."""
    server = RunningServer("", tmp_path / "data", MOLECULE_AUDIT_WINDOW_SECONDS="1")
    with EmbeddedPostgres(server.data_dir) as postgres:
        await migrate(postgres.dsn, MIGRATIONS, to=21)
        await execute(postgres.dsn, _ENTRY)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        send(signal.SIGKILL, processes_in(server.data_dir / "postgres"))


async def test_a_data_directory_is_upgraded_in_place(upgraded: RunningServer) -> None:
    for _ in range(2):
        await _check(upgraded)
        assert upgraded.stop() == 0
        upgraded.start()


async def _check(server: RunningServer) -> None:
    postgres = EmbeddedPostgres(server.data_dir)
    async with wire_to(server) as wire:
        operator = wire.party(server.admin_token)
        org = await found(wire, operator)

        async def rpcs() -> set[str]:
            entries = await operator.rest("GET", "/admin/audit-log", limit=500)
            return {entry["rpc"] for entry in entries.json()}

        await until(rpcs, lambda seen: {"Old", "AdminService/CreateOrganization"} <= seen)
        assert (await org.rest("GET", "/workspaces")).status_code == 200
    connection = await asyncpg.connect(postgres.dsn)
    try:
        roles = await connection.fetch(
            "SELECT DISTINCT usename FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
    assert [role["usename"] for role in roles] == ["molecule_server"]
    for statement in ("DELETE FROM audit_log", "UPDATE audit_log SET calls = 0"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await execute(postgres.server_dsn, statement)
