"""A copy of the migrated database for each server, so that updates are counted per server."""

from __future__ import annotations

import time
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil

from benchmarks.harness import Agent, cpu_seconds, make_agents
from molecule_grpc.kernel.ids import new_id

# A backend of Postgres hands in what it has counted after 10 s of rest at the latest.
_COUNTED_SECONDS = 15.0


def named(dsn: str, database: str) -> str:
    """The address of another database of the same server."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{database}"))


async def make_template(dsn: str, agents: int) -> list[Agent]:
    """Fill the migrated database with agents that have their secret, as after the first call."""
    made = await make_agents(dsn, agents)
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE workspaces SET platform_inbound_secret = repeat('s', 43)")
    await connection.execute("VACUUM ANALYZE workspaces")
    await connection.close()
    return made


async def copies(dsn: str, count: int) -> list[str]:
    """Copies of the database that `dsn` names; their addresses."""
    template = urlsplit(dsn).path.removeprefix("/")
    connection = await asyncpg.connect(named(dsn, "template1"))
    names = [f"peer_{new_id().hex}" for _ in range(count)]
    for name in names:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    await connection.close()
    return [named(dsn, name) for name in names]


async def empty(dsn: str) -> str:
    """A database without tables, beside the one that `dsn` names; its address."""
    connection = await asyncpg.connect(named(dsn, "template1"))
    name = f"peer_{new_id().hex}"
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    return named(dsn, name)


async def written(dsn: str, at_least: int) -> int:
    """Updates of workspaces in this database so far; waits for those that are not counted yet."""
    connection = await asyncpg.connect(dsn)
    deadline = time.monotonic() + _COUNTED_SECONDS
    while True:
        count: int = await connection.fetchval(
            "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'workspaces'"
        )
        if count >= at_least or time.monotonic() > deadline:
            await connection.close()
            return count
        await connection.execute("SELECT pg_sleep(0.2)")


class Postgres:
    """The processor time of a Postgres with all its backends."""

    def __init__(self, postmaster: int) -> None:
        self._postmaster = postmaster

    @classmethod
    async def of(cls, dsn: str) -> Postgres:
        """The server that this address leads to, on this machine."""
        connection = await asyncpg.connect(dsn)
        backend = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
        postmaster = backend.ppid()
        await connection.close()
        return cls(postmaster)

    def cpu(self) -> float:
        """CPU seconds so far, ended backends included."""
        return cpu_seconds(self._postmaster)
