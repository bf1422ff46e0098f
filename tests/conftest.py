"""Real Postgres for every test: one server a process, a migrated template, a database a test.

With xdist each worker has servers of its own, so that no test can disturb one in another process.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

import molecule_grpc.cli  # noqa: F401 - before gRPC: the tests fork while its threads run
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.migrate import migrate
from molecule_grpc.db.pool import Pool, connect_pool
from molecule_grpc.db.roles import SERVER_ROLE, grant_embedded
from tests.running import RunningServer
from tests.seaweed import Seaweed

pytest_plugins = [
    "tests.authorities",
    "tests.order",
    "tests.leaks",
    "tests.places",
    "tests.reruns",
    "tests.engine.fixtures",
    "tests.amazon",
    "tests.kubernetes.fixtures",
]

# Examples may be slow: their number bounds a test, and its own limit.
settings.register_profile(
    "patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

MIGRATIONS = Path(__file__).parent.parent / "migrations"
# Nothing of a test outlives its server, and the log of what it wrote stays small.
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"}
# Whether tests that come in two lengths take the long form.
LONG = os.environ.get("TEST_LONG") == "1"


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{name}"))


def as_server(dsn: str) -> str:
    """The same database as a server's role sees it, which owns nothing."""
    if os.environ.get("TEST_DATABASE_URL"):
        return dsn
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{SERVER_ROLE}@"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A server for the session. TEST_DATABASE_URL names one that runs already."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="molecule-test-", dir=_in_memory()) as directory:
        server = EmbeddedPostgres(Path(directory), _SETTINGS)
        yield server.start()
        server.stop()


def _in_memory() -> Path | None:
    """Where files are memory, if 2 GiB are free there.

    A database a test is 9 MB written and deleted a thousand times: on a busy disk each takes a
    third of a second of CPU, in memory a thirtieth.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 1024**3
    return memory if roomy else None


@pytest.fixture(scope="session")
def template(postgres: str) -> Iterator[str]:
    """Name of a migrated database that tests copy."""
    name = f"template_{uuid.uuid4().hex[:12]}"

    async def make() -> None:
        await execute(postgres, f"CREATE DATABASE {name}")
        await migrate(with_database(postgres, name), MIGRATIONS)
        if not os.environ.get("TEST_DATABASE_URL"):
            await grant_embedded(with_database(postgres, name))

    asyncio.run(make())
    yield name
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def database_url(postgres: str, template: str) -> AsyncIterator[str]:
    """A migrated database of this test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield with_database(postgres, name)
    await execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Connections to this test's database."""
    opened = await connect_pool(database_url, min_size=1, max_size=8)
    yield opened
    await opened.close()


async def execute(dsn: str, sql: str) -> None:
    """Open a connection, run one statement, close the connection."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def session_database(postgres: str, template: str) -> Iterator[str]:
    """One database for all tests that share the session's server; each test makes its own ids."""
    name = f"session_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield with_database(postgres, name)
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def server(
    session_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """One real server, with Envoy, for the session. Do not kill this one."""
    running = RunningServer(
        session_database,
        tmp_path_factory.mktemp("server"),
        DATABASE_URL=as_server(session_database),
        MOLECULE_ENABLE_TEST_TOKENS="1",
        MOLECULE_INBOX_BEAT_SECONDS="1",
        MOLECULE_INBOX_SAFETY_SECONDS="1",
        MOLECULE_AUDIT_WINDOW_SECONDS="1",
    )
    running.start()
    yield running
    running.kill()  # A stop in good order takes four seconds of waiting.
    running.require_sound_scripts()


@pytest.fixture
def own_server(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> Iterator[Callable[..., RunningServer]]:
    """Makes servers over this test's own database, with settings of its choice; kill at will."""
    started: list[RunningServer] = []
    # Of a test that looks at the processes of this host.
    host = {"MOLECULE_HOST_MODE": "grpc"} if request.node.get_closest_marker("grpc_host") else {}

    def make(*, entry: Sequence[str] = (), **environment: str) -> RunningServer:
        environment = {"DATABASE_URL": as_server(database_url), **host, **environment}
        running = RunningServer(
            database_url, tmp_path / f"server-{len(started)}", entry=entry, **environment
        )
        started.append(running)
        running.start()
        return running

    yield make
    for running in started:
        running.kill()


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A real S3 server for the session. Do not kill this one."""
    server = Seaweed(tmp_path_factory.mktemp("seaweed"))
    server.start()
    yield server
    server.kill()
