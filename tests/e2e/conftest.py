"""Who calls the session's server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.conftest import execute, with_database
from tests.e2e.families import Families, Family, NewFamily, found_family
from tests.e2e.parties import Organization, Party, Wire, found, wire_to
from tests.e2e.rows import Rows
from tests.running import RunningServer


@pytest.fixture(scope="session")
async def wire(server: RunningServer) -> AsyncIterator[Wire]:
    """Both ways into the session's server."""
    async with wire_to(server) as opened:
        yield opened


@pytest.fixture
def stranger(wire: Wire) -> Party:
    """Somebody without a token."""
    return wire.party()


@pytest.fixture
def operator(wire: Wire, server: RunningServer) -> Party:
    """Whoever runs the installation."""
    return wire.party(server.admin_token)


@pytest.fixture
async def org(wire: Wire, operator: Party) -> Organization:
    """An organisation of this test's own."""
    return await found(wire, operator)


@pytest.fixture
async def other_org(wire: Wire, operator: Party) -> Organization:
    """Another one."""
    return await found(wire, operator)


@pytest.fixture(scope="session")
def still_server(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server over a database of its own, in which nothing moves unless a call moves it."""
    name = f"still_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    running = RunningServer(
        with_database(postgres, name),
        tmp_path_factory.mktemp("still"),
        MOLECULE_ENABLE_TEST_TOKENS="1",
        MOLECULE_INBOX_BEAT_SECONDS="0.5",
        REMOTE_LIVENESS_STALE_AFTER="100000",
        MOLECULE_LIVENESS_TTL_SECONDS="100000",
        DELEGATION_SWEEPER_INTERVAL_S="100000",
        MOLECULE_PHANTOM_BUSY_INTERVAL_SECONDS="100000",
        MOLECULE_MEMORY_RECALL_SECONDS="100000",
        MOLECULE_MEMORY_SWEEP_SECONDS="100000",
    )
    running.start()
    yield running
    running.kill()
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))
    running.require_sound_scripts()


@pytest.fixture(scope="session")
async def still_database(
    still_server: RunningServer,
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """The database of the still server."""
    connection = await asyncpg.connect(still_server.database_url)
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
async def rows(still_database: asyncpg.Connection[asyncpg.Record]) -> Rows:
    """What stands in the database of the still server."""
    return await Rows.of(still_database)


@pytest.fixture(scope="session")
async def still_wire(still_server: RunningServer) -> AsyncIterator[Wire]:
    """Both ways into the still server."""
    async with wire_to(still_server) as opened:
        yield opened


@pytest.fixture(scope="session")
def new_family(
    still_wire: Wire,
    still_server: RunningServer,
    still_database: asyncpg.Connection[asyncpg.Record],
) -> NewFamily:
    """Makes families on the still server."""
    operator = still_wire.party(still_server.admin_token)
    return lambda: found_family(still_wire, operator, still_database)


@pytest.fixture(scope="session")
async def bystanders(new_family: NewFamily) -> Family:
    """A family for what hardly ever does any harm."""
    return await new_family()


@pytest.fixture(scope="session")
def families(new_family: NewFamily) -> Families:
    """Families of the still server for tests that may change somebody."""
    return Families(new_family)


@pytest.fixture
async def family(families: Families) -> Family:
    """Callers of every role on the still server, which keeps the rows of earlier tests."""
    return await families.family()
