"""The embedded Postgres keeps its data and comes back after any end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from molecule_grpc.db.embedded.failures import EmbeddedPostgresError
from molecule_grpc.db.embedded.keeper import KeptPostgres
from molecule_grpc.db.embedded.processes import processes_in, send, wait_until
from molecule_grpc.db.embedded.programs import embedded_postgres_version
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from tests.small_disk import CannotMountError, fill, small_disk
from tests.waiting import until

FAST = {"fsync": "off"}
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="changes to another account")

NOBODY = 65534
OWNER = """
import os, sys, structlog
from pathlib import Path
from molecule_grpc.db.embedded.server import EmbeddedPostgres
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
if user := int(sys.argv[2]):
    os.setgroups([]); os.setgid(user); os.setuid(user)
with EmbeddedPostgres(Path(sys.argv[1]), {"fsync": "off"}) as postgres:
    print(postgres.dsn, flush=True)
    sys.stdin.read()
"""

GROW_LOG = "SELECT pg_logical_emit_message(true, '', repeat('x', 100000000))"

CONNECT = """
import asyncio, asyncpg, os, sys
user = int(sys.argv[2])
os.setgroups([]); os.setgid(user); os.setuid(user)
asyncio.run(asyncpg.connect(sys.argv[1]))
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="molecule-pg-"))
    yield path
    send(signal.SIGKILL, processes_in(path / "postgres"))
    shutil.rmtree(path)


def owner_process(data_dir: Path, user: int = 0) -> subprocess.Popen[str]:
    """A separate process that owns a Postgres until its standard input closes."""
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir), str(user)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def dsn_of(owner: subprocess.Popen[str]) -> str:
    assert owner.stdout
    return owner.stdout.readline().strip() or pytest.fail(owner.communicate()[1])


def bystander(user: int) -> subprocess.Popen[bytes]:
    """A process of the same account that has nothing to do with Postgres."""
    return subprocess.Popen(["sleep", "60"], cwd="/", user=user if os.geteuid() == 0 else None)


def stranger_connects(dsn: str) -> str:
    """What a process of the account that owns the data is told; empty when it gets in."""
    command = [sys.executable, "-c", CONNECT, dsn, str(NOBODY)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


async def execute(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


@pytest.mark.clock
async def test_data_stays_over_a_stop_and_the_second_start_is_quick(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as postgres:
        await execute(postgres.dsn, "CREATE TABLE kept AS SELECT 7 AS number")

    before = time.monotonic()
    with EmbeddedPostgres(data_dir) as postgres:
        assert time.monotonic() - before < 2
        assert await execute(postgres.dsn, "SELECT number FROM kept") == 7


async def test_it_is_postgres_18_with_pgvector(data_dir: Path) -> None:
    assert embedded_postgres_version().startswith("18.")
    with EmbeddedPostgres(data_dir, FAST) as postgres:
        await execute(postgres.dsn, "CREATE EXTENSION vector")
        version = await execute(
            postgres.dsn, "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        )
        distance = await execute(postgres.dsn, "SELECT '[1,2]'::vector <-> '[4,6]'::vector")

    assert tuple(map(int, str(version).split("."))) >= (0, 8)
    assert distance == 5


async def test_given_settings_win_over_ours(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, {"fsync": "off", "max_connections": "17"}) as postgres:
        assert await execute(postgres.dsn, "SHOW max_connections") == "17"
        assert await execute(postgres.dsn, "SHOW synchronous_commit") == "on"
        assert await execute(postgres.dsn, "SHOW listen_addresses") == ""


async def test_a_commit_survives_kill_hard(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    await execute(postgres.start(), "CREATE TABLE kept AS SELECT 7 AS number")
    postgres.kill_hard()
    assert not processes_in(data_dir / "postgres")

    with postgres:
        assert await execute(postgres.dsn, "SELECT number FROM kept") == 7


async def test_it_starts_after_owner_and_postmaster_were_killed(data_dir: Path) -> None:
    owner = owner_process(data_dir)
    await execute(dsn_of(owner), "CREATE TABLE kept AS SELECT 7 AS number")
    owner.kill()
    os.kill(int((data_dir / "postgres/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    owner.communicate()

    with EmbeddedPostgres(data_dir, FAST) as postgres:
        assert await execute(postgres.dsn, "SELECT number FROM kept") == 7


async def test_a_server_left_by_a_killed_owner_is_replaced(data_dir: Path) -> None:
    owner = owner_process(data_dir)
    leftover_dsn = dsn_of(owner)
    leftover = await execute(leftover_dsn, "SELECT pg_postmaster_start_time()")
    owner.kill()
    owner.communicate()

    with EmbeddedPostgres(data_dir, FAST) as postgres:
        assert await execute(postgres.dsn, "SELECT pg_postmaster_start_time()") != leftover


async def test_a_stale_pid_that_belongs_to_another_process_by_now_does_not_matter(
    data_dir: Path,
) -> None:
    postgres = EmbeddedPostgres(data_dir, FAST)
    postgres.start()
    account = (data_dir / "postgres").stat()
    stale = (data_dir / "postgres/postmaster.pid").read_text()
    postgres.kill_hard()
    stranger = bystander(account.st_uid)
    lines = [str(stranger.pid), *stale.splitlines()[1:]]
    (data_dir / "postgres/postmaster.pid").write_text("\n".join(lines) + "\n")

    try:
        with postgres:
            assert await execute(postgres.dsn, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_it_starts_again_after_postgres_died_by_itself(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, FAST) as postgres:
        assert postgres.pid
        os.kill(postgres.pid, signal.SIGKILL)
        assert wait_until(lambda: postgres.pid is None, timeout_seconds=5)

        assert await execute(postgres.start(), "SELECT 1") == 1


async def test_two_data_directories_run_side_by_side(data_dir: Path) -> None:
    with (
        EmbeddedPostgres(data_dir / "one", FAST) as one,
        EmbeddedPostgres(data_dir / "two", FAST) as two,
    ):
        await execute(one.dsn, "CREATE TABLE only_here ()")
        assert await execute(two.dsn, "SELECT to_regclass('only_here')") is None


def test_one_data_directory_has_one_owner(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, FAST) as first:
        with pytest.raises(EmbeddedPostgresError, match="in use by another process"):
            EmbeddedPostgres(data_dir, FAST).start()
        with pytest.raises(EmbeddedPostgresError, match="runs already"):
            first.start()
        assert first.pid


async def test_a_path_too_long_for_a_socket_works(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir / ("deep" * 25), FAST) as postgres:
        assert await execute(postgres.dsn, "SELECT 1") == 1


@pytest.mark.clock
async def test_an_open_transaction_does_not_hold_up_a_stop(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, FAST) as postgres:
        connection = await asyncpg.connect(postgres.dsn)
        await connection.execute("BEGIN")
        before = time.monotonic()
        postgres.stop()
        assert time.monotonic() - before < 5
        connection.terminate()


def test_ctrl_c_in_the_terminal_does_not_reach_postgres(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, FAST) as postgres:
        assert postgres.pid
        assert os.getpgid(postgres.pid) != os.getpgid(0)


@AS_ROOT
def test_started_by_root_no_process_runs_as_root(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, FAST):
        running = processes_in(data_dir / "postgres")
        assert running
        assert all(0 not in process.uids() for process in running)


@AS_ROOT
async def test_a_plain_user_runs_it_and_root_can_take_over(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir / "other", FAST):
        pass  # root has made the wheel's programs reachable for others
    os.chown(data_dir, NOBODY, NOBODY)

    owner = owner_process(data_dir / "plain", user=NOBODY)
    await execute(dsn_of(owner), "CREATE TABLE kept AS SELECT 7 AS number")
    owner.communicate()
    assert (data_dir / "plain").stat().st_uid == NOBODY

    with EmbeddedPostgres(data_dir / "plain", FAST) as postgres:
        assert await execute(postgres.dsn, "SELECT number FROM kept") == 7


@AS_ROOT
def test_data_of_another_user_are_refused_with_a_reason(data_dir: Path) -> None:
    os.chown(data_dir, NOBODY, NOBODY)
    (data_dir / "postgres").mkdir()
    _, complaint = owner_process(data_dir, user=NOBODY).communicate()
    assert "belongs to user id 0; start as that user or as root" in complaint


@AS_ROOT
async def test_only_the_account_that_started_it_gets_in(data_dir: Path) -> None:
    """A process of the account that owns the data is a stranger to the kernel's eyes."""
    with EmbeddedPostgres(data_dir, FAST) as postgres:
        assert await execute(postgres.dsn, "SELECT current_user") == "molecule"
        tried = await asyncio.to_thread(stranger_connects, postgres.dsn)
    assert "InvalidAuthorizationSpecificationError" in tried


@AS_ROOT
@pytest.mark.parametrize("version", [None, "17"])
def test_what_is_no_data_of_ours_is_refused_and_left_alone(
    data_dir: Path, version: str | None
) -> None:
    """Owner and mode of a foreign directory stay as they were."""
    data_dir.chmod(0o700)
    foreign = data_dir / "postgres"
    foreign.mkdir(mode=0o700)
    (foreign / "precious").touch(mode=0o600)
    if version:
        (foreign / "PG_VERSION").write_text(f"{version}\n")
    with pytest.raises(EmbeddedPostgresError, match=version or "no data of Postgres"):
        EmbeddedPostgres(data_dir, FAST).start()
    for path in (foreign, foreign / "precious"):
        assert path.stat().st_uid == 0
    assert data_dir.stat().st_mode & 0o777 == 0o700


def test_a_failed_start_says_what_postgres_said_and_frees_the_directory(data_dir: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="max_connections"):
        EmbeddedPostgres(data_dir, {"fsync": "off", "max_connections": "many"}).start()
    with EmbeddedPostgres(data_dir, FAST):
        pass


async def test_postgres_that_ran_out_of_disk_says_so_and_comes_back(tmp_path: Path) -> None:
    """The operator's log says "disk is full" at each attempt; space alone brings Postgres back."""
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk", 200))
        except CannotMountError:
            pytest.skip("may not mount")
        logged = stack.enter_context(capture_logs())
        kept = stack.enter_context(KeptPostgres(EmbeddedPostgres(disk)))
        await execute(kept.dsn, "CREATE TABLE kept AS SELECT 7 AS number")
        ballast = disk / "ballast"
        fill(ballast)
        # A table that cannot grow fails a statement; a log that cannot grow ends Postgres.
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await execute(kept.dsn, GROW_LOG)

        async def attempts() -> list[MutableMapping[str, Any]]:
            return [entry for entry in logged if entry["event"] == "Postgres did not start"]

        await until(attempts, bool)
        down = [entry for entry in logged if entry["event"].startswith("Postgres is down")]
        assert all("the disk is full: 0 MiB are free" in entry["because"] for entry in down)
        ballast.unlink()

        async def answers() -> object:
            with contextlib.suppress(asyncpg.PostgresError, OSError):
                return await execute(kept.dsn, "SELECT number FROM kept ORDER BY number LIMIT 1")
            return None

        await until(answers, lambda number: number is not None)
        assert logged[-1]["event"] == "Postgres is up again"
