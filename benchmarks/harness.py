"""Shared by all benchmarks: a durable Postgres, workers on TCP ports, workspaces to act as."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import psutil

from molecule_grpc.auth.tokens import mint
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.migrate import migrate
from molecule_grpc.db.pool import connect
from molecule_grpc.delegation.ledger.store.accept import DelegationDraft
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.resources import migrations_dir

ORGANIZATION = DEFAULT_ORGANIZATION
ADMIN_TOKEN = "benchmark-admin-token"
# Inboxes without bounds, and gRPC as the fleet sets it.
WORKER_ENVIRONMENT = {
    "ADMIN_TOKEN": ADMIN_TOKEN,
    "GRPC_EXPERIMENTS": "-event_engine_listener",
    "MOLECULE_INBOX_MAX_ITEMS": "1000000000",
    "MOLECULE_INBOX_MAX_BYTES": "1000000000000",
    "LOG_LEVEL": "error",
}
_READY_SECONDS = 30.0
# 250 segments of 4 MiB: more log than any benchmark writes between two checkpoints.
_WAL_SEGMENTS = 250


@dataclass(frozen=True, slots=True)
class Agent:
    """A workspace and its token."""

    id: UUID
    token: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Call metadata that authenticates as this workspace."""
        return (("authorization", f"Bearer {self.token}"),)


@contextlib.contextmanager
def durable_postgres() -> Iterator[str]:
    """A migrated Postgres with fsync on; its DSN."""
    with (
        tempfile.TemporaryDirectory(prefix="molecule-bench-") as directory,
        EmbeddedPostgres(Path(directory)) as server,
    ):
        asyncio.run(migrate(server.dsn, migrations_dir()))
        asyncio.run(_age_wal(server.dsn))
        yield server.dsn


async def _age_wal(dsn: str) -> None:
    """Fill pg_wal with segments, so that Postgres recycles them as after hours of work.

    A young cluster creates segments instead: each stops every commit for 5 ms.
    """
    connection = await connect(dsn)
    try:
        for _ in range(_WAL_SEGMENTS):
            await connection.execute(
                "SELECT pg_logical_emit_message(false, '', ''); SELECT pg_switch_wal()"
            )
        for _ in range(2):  # the second recycles segments that the first still needed
            await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def make_organization(dsn: str) -> UUID:
    """A new organisation; its id."""
    organization_id = new_id()
    connection = await connect(dsn)
    try:
        await connection.execute(
            "INSERT INTO organizations (id, slug, name) VALUES ($1, $2, $2)",
            organization_id,
            f"bench-{organization_id.hex[-12:]}",
        )
    finally:
        await connection.close()
    return organization_id


async def make_agents(dsn: str, count: int, organization: UUID = ORGANIZATION) -> list[Agent]:
    """Sibling workspaces in poll mode, each with a token."""
    parent = new_id()
    secrets = [(new_id(), mint()) for _ in range(count)]
    connection = await connect(dsn)
    try:
        await connection.execute(
            """INSERT INTO workspaces (id, organization_id, name, tier, status, delivery_mode)
               VALUES ($1, $2, $3, 3, 'online', 'poll')""",
            parent,
            organization,
            str(parent),
        )
        await connection.execute(
            """INSERT INTO workspaces (id, organization_id, parent_id, name, tier, status, runtime,
                                       delivery_mode, last_heartbeat_at)
               SELECT id, $2, $3, id::text, 3, 'online', 'external', 'poll', now()
               FROM unnest($1::uuid[]) AS t (id)""",
            [workspace_id for workspace_id, _ in secrets],
            organization,
            parent,
        )
        await connection.execute(
            """INSERT INTO workspace_auth_tokens (id, workspace_id, token_hash, prefix)
               SELECT gen_random_uuid(), w, h, 'bench' FROM unnest($1::uuid[], $2::bytea[]) t (w, h)
            """,
            [workspace_id for workspace_id, _ in secrets],
            [secret.digest for _, secret in secrets],
        )
        await connection.execute("ANALYZE workspaces, workspace_auth_tokens")
    finally:
        await connection.close()
    return [Agent(workspace_id, secret.text) for workspace_id, secret in secrets]


async def dismiss(dsn: str, agents: list[Agent]) -> None:
    """Mark these workspaces removed; else all go offline at once while the next run measures."""
    connection = await connect(dsn)
    try:
        await connection.execute(
            "UPDATE workspaces SET status = 'removed' WHERE id = ANY($1)",
            [agent.id for agent in agents],
        )
    finally:
        await connection.close()


class Worker:
    """A worker process of the real server on a TCP port."""

    def __init__(self, dsn: str, **environment: str) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "molecule_grpc.server.process.worker",
                f"--address=127.0.0.1:{self.port}",
            ],
            env={
                **os.environ,
                "DATABASE_URL": dsn,
                **WORKER_ENVIRONMENT,
                **environment,
            },
        )

    @property
    def target(self) -> str:
        """The worker's address, `host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """CPU seconds spent by the worker since its start."""
        return cpu_seconds(self._process.pid)

    async def ready(self) -> None:
        """Wait until the worker accepts calls. Raises TimeoutError after 30 s."""
        async with grpc.aio.insecure_channel(self.target) as channel:
            async with asyncio.timeout(_READY_SECONDS):
                await channel.channel_ready()

    def stop(self) -> None:
        """Send SIGTERM and wait; SIGKILL after 20 s."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.asynccontextmanager
async def workers(dsn: str, count: int = 1, **environment: str) -> AsyncIterator[list[Worker]]:
    """`count` ready workers over one database; stopped at the end."""
    started = [Worker(dsn, **environment) for _ in range(count)]
    try:
        for worker in started:
            await worker.ready()
        yield started
    finally:
        for worker in started:
            worker.stop()


def cpu_seconds(pid: int) -> float:
    """CPU seconds spent by a process and all its descendants, ended children included."""
    root, total = psutil.Process(pid), 0.0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def listening(port: int) -> None:
    """Wait until a port of 127.0.0.1 accepts connections. Raises TimeoutError after 30 s."""
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lies; NaN for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def delegation_draft(
    caller_id: UUID, callee_id: UUID, organization_id: UUID, body: str, **changes: Any
) -> DelegationDraft:
    """A delegation to be accepted, with an hour until its deadline."""
    draft = DelegationDraft(
        delegation_id=str(new_id()),
        caller_id=caller_id,
        callee_id=callee_id,
        organization_id=organization_id,
        task_preview="task",
        status="queued",
        idempotency_key=None,
        request_hash=b"",
        deadline_seconds=3600,
        audit_id=new_id(),
        item_id=new_id(),
        request_body=body,
        bytes=len(body),
        queue_id=None,
    )
    return draft._replace(**changes)
