"""A Postgres that is too old is refused in words, before anything is written to it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from asyncpg.types import ServerVersion

from molecule_grpc.cli.doctor import doctor
from molecule_grpc.db import postgres_version
from molecule_grpc.db.migrate import migrate
from molecule_grpc.db.pool import Pool, connect_pool
from molecule_grpc.db.postgres_version import UnsupportedPostgresError, require_supported_postgres
from tests.conftest import MIGRATIONS
from tests.settings import settings_of

NEEDED = "too old: version 99 or newer is needed"


@pytest.fixture
def higher_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the server of these tests were too old."""
    monkeypatch.setattr(postgres_version, "MIN_POSTGRES", 990000)
    monkeypatch.setattr(postgres_version, "MIN_POSTGRES_MAJOR", 99)


@pytest.mark.parametrize(("version", "supported"), [((17, 9), False), ((18, 0), True)])
def test_version_18_is_the_first_that_will_do(version: tuple[int, int], supported: bool) -> None:
    server = ServerVersion(version[0], 0, version[1], "final", 0)
    if supported:
        require_supported_postgres(server)
    else:
        with pytest.raises(UnsupportedPostgresError, match=r"17\.9 is too old: version 18 "):
            require_supported_postgres(server)


async def test_the_server_of_these_tests_will_do(pool: Pool) -> None:
    """The number made of the version told at connect is `server_version_num`."""
    number = int(await pool.fetchval("SHOW server_version_num"))
    async with pool.acquire() as connection:
        assert postgres_version.version_num(connection.get_server_version()) == number
    assert postgres_version.is_supported(number)


@pytest.mark.usefixtures("higher_minimum")
async def test_migrations_refuse_it_and_change_nothing(postgres: str) -> None:
    """`up` and `migrate` start with this."""
    with pytest.raises(UnsupportedPostgresError, match=NEEDED):
        await migrate(postgres, MIGRATIONS)
    connection = await asyncpg.connect(postgres)
    try:
        assert await connection.fetchval("SELECT to_regclass('schema_migrations')") is None
    finally:
        await connection.close()


@pytest.mark.usefixtures("higher_minimum")
async def test_a_worker_does_not_start_over_it(postgres: str) -> None:
    """`serve` starts with the pool."""
    with pytest.raises(UnsupportedPostgresError, match=NEEDED):
        await connect_pool(postgres, min_size=1, max_size=1)


async def test_doctor_names_what_is_needed(database_url: str) -> None:
    settings = settings_of(process_database_url=database_url)
    findings = await asyncio.to_thread(doctor, settings)
    found = next(one for one in findings if one.name == "database")
    assert found.well
    assert found.fix == "Postgres 18 or newer is needed"
