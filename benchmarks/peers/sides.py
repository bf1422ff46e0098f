"""The servers that are measured, ours and the peers', each over a database of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import (
    WORKER_ENVIRONMENT,
    Agent,
    cpu_seconds,
    free_port,
    listening,
    make_agents,
    workers,
)
from benchmarks.installations import installation
from benchmarks.peers.programs import GoPrograms, Missing, require_fastapi
from molecule_grpc.server.process.host_mode import AUTO, ENVOY, GRPC, host_mode

# Agents that are not measured in a round must not go offline in it, and all are of one
# organisation, which may use everything.
_SETTINGS = {
    "MOLECULE_LIVENESS_TTL_SECONDS": "86400",
    "MOLECULE_STATEMENTS_PER_ORGANIZATION": "16",
    # A thousand streams of one organisation that wait for a busy processor are no slow consumers.
    "MOLECULE_STREAM_BYTES_PER_ORGANIZATION": str(2 * 1024**3),
}
# As many connections as MOLECULE_DATABASE_POOL_SIZE.
_POOL = "16"


@dataclass(frozen=True, slots=True)
class Side:
    """A running server.

    Args:
        dsn: its database; empty where it has none.
        pids: the processes whose processor time counts, with all their descendants.
        grpc: `host:port` of gRPC; empty where it has none.
        rest: `host:port` of REST; empty where it has none.
        readers: `host:port` where streams of messages are read, if that is elsewhere.
        agents: those of its database, if that is no copy of the others'.
    """

    dsn: str
    pids: Sequence[int]
    grpc: str = ""
    rest: str = ""
    readers: str = ""
    agents: Sequence[Agent] = ()

    def cpu(self) -> float:
        """CPU seconds of the server so far."""
        return sum(map(cpu_seconds, self.pids))


@contextlib.asynccontextmanager
async def behind_envoy(dsn: str, directory: Path) -> AsyncIterator[Side]:
    """Ours: the grpc.aio host behind Envoy, the whole edge in front of it."""
    async with installation(
        dsn, directory / "behind", MOLECULE_HOST_MODE=GRPC, **_SETTINGS
    ) as server:
        yield Side(dsn, [server.pid], server.grpc_target, server.grpc_target)


@contextlib.asynccontextmanager
async def inside_envoy(dsn: str, directory: Path) -> AsyncIterator[Side]:
    """Ours: the handlers inside Envoy. Raises Missing where it cannot load them."""
    found = host_mode(AUTO)
    if found.name != ENVOY:
        raise Missing(found.because)
    async with installation(
        dsn, directory / "inside", MOLECULE_HOST_MODE=ENVOY, **_SETTINGS
    ) as server:
        yield Side(dsn, [server.pid], server.grpc_target, server.grpc_target)


@contextlib.asynccontextmanager
async def across(dsn: str, directory: Path) -> AsyncIterator[Side]:
    """Ours: two processes over one database, one for who sends and one for who reads.

    Two installations of a process each: two processes of one installation share a port, and the
    kernel chooses whose client is whose.
    """
    async with (
        inside_envoy(dsn, directory / "first") as first,
        inside_envoy(dsn, directory / "second") as second,
    ):
        yield Side(dsn, [*first.pids, *second.pids], first.grpc, readers=second.grpc)


@contextlib.asynccontextmanager
async def direct(dsn: str) -> AsyncIterator[Side]:
    """Ours: the grpc.aio host alone, which no installation shows to agents."""
    async with workers(dsn, 1, **_SETTINGS) as (worker,):
        yield Side(dsn, [worker.pid], worker.target)


@contextlib.asynccontextmanager
async def go(dsn: str, programs: GoPrograms, *, group: bool) -> AsyncIterator[Side]:
    """The Go server: grpc-go and gin over pgx."""
    grpc_port, rest_port = free_port(), free_port()
    command = [
        str(programs.server),
        f"-dsn={dsn}",
        f"-grpc=127.0.0.1:{grpc_port}",
        f"-rest=127.0.0.1:{rest_port}",
        f"-pool={_POOL}",
        f"-group={str(group).lower()}",
    ]
    async with running(command, [grpc_port, rest_port]) as pid:
        yield Side(dsn, [pid], f"127.0.0.1:{grpc_port}", f"127.0.0.1:{rest_port}")


@contextlib.asynccontextmanager
async def fastapi(dsn: str) -> AsyncIterator[Side]:
    """FastAPI over asyncpg. Raises Missing without its packages."""
    require_fastapi()
    port = free_port()
    module = "benchmarks.peers.fastapi_server"
    command = [sys.executable, "-m", module, f"--dsn={dsn}", f"--port={port}", f"--pool={_POOL}"]
    async with running(command, [port]) as pid:
        yield Side(dsn, [pid], rest=f"127.0.0.1:{port}")


@contextlib.asynccontextmanager
async def earlier(dsn: str, checkout: Path | None, agents: int) -> AsyncIterator[Side]:
    """Ours as it was: a worker of another checkout, over this empty database.

    Raises:
        Missing: no checkout was named, or it cannot migrate.
    """
    if checkout is None:
        raise Missing("no --earlier names a checkout")
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(checkout), str(checkout / "gen/python")]),
        "DATABASE_URL": dsn,
        **WORKER_ENVIRONMENT,
        **_SETTINGS,
    }
    command = [sys.executable, "-m", "molecule_grpc.cli.main"]
    migrating = await asyncio.create_subprocess_exec(
        *command, "migrate", cwd=checkout, env=environment
    )
    if await migrating.wait():
        raise Missing(f"{checkout} cannot migrate")
    serving = [*command, "serve", f"--address=127.0.0.1:{port}"]
    async with running(serving, [port], cwd=checkout, env=environment) as pid:
        made = await make_agents(dsn, agents)
        yield Side(dsn, [pid], f"127.0.0.1:{port}", agents=made)


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str],
    ports: Sequence[int],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[int]:
    """Start a server, yield its process id once all `ports` accept connections, then end it."""
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd, env=env)
    try:
        for port in ports:
            await listening(port)
        yield process.pid
    finally:
        process.terminate()
        await process.wait()
