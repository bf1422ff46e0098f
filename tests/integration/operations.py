"""A worker that runs operations on a scripted control plane, over a test's database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import OPERATOR
from molecule_grpc.backends.operations.queue import Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.backends.wiring import BackendsSlice, open_backends
from molecule_grpc.db.pool import Pool
from molecule_grpc.secrets.wiring import open_secrets
from molecule_grpc.templates.wiring import make_start_files
from molecule_grpc.workspace.wiring import open_workspace
from tests.control_plane import SECRET, ScriptedControlPlane
from tests.integration.cores import core_of
from tests.integration.workspaces import ORGANIZATION, Bench, by
from tests.settings import settings_of
from tests.waiting import until


@dataclass(slots=True)
class OperationWorker:
    """One worker of several."""

    bench: Bench
    backends: BackendsSlice
    pool: Pool
    loop: asyncio.Task[None]

    async def create(self, name: str = "a", **fields: Any) -> UUID:
        """A workspace that a backend runs."""
        request = pb.CreateWorkspaceRequest(name=name, runtime="langgraph", **fields)
        created = await self.bench.service.CreateWorkspace(request, by(OPERATOR))
        return UUID(created.id)

    async def ask(self, workspace_id: UUID, kind: Kind, source: str = "test") -> UUID:
        """Ask for an operation."""
        async with self.pool.acquire() as conn, conn.transaction():
            [asked] = await enqueue(conn, [Wanted(workspace_id, ORGANIZATION, kind, source)])
        self.backends.announce()
        return asked.operation_id

    async def ended(self, workspace_id: UUID, count: int = 1) -> list[asyncpg.Record]:
        """The operations of a workspace, oldest first, when so many have ended and none is left."""

        async def look() -> list[asyncpg.Record]:
            return await operations(self.pool, workspace_id)

        return await until(
            look, lambda rows: len(rows) >= count and all(row["ended_at"] for row in rows)
        )

    async def stop(self) -> None:
        """End as on SIGTERM."""
        self.loop.cancel()
        await asyncio.gather(self.loop, return_exceptions=True)


async def operations(pool: Pool, workspace_id: UUID) -> list[asyncpg.Record]:
    """The operations of a workspace, oldest first."""
    return await pool.fetch(
        "SELECT * FROM workspace_operations WHERE workspace_id = $1 ORDER BY created_at, id",
        workspace_id,
    )


@contextlib.asynccontextmanager
async def worker_of(
    pool: Pool, dsn: str, plane: ScriptedControlPlane, **settings: Any
) -> AsyncIterator[OperationWorker]:
    """A worker; its lease is 1.5 s, so that it looks twice a second."""
    given = {
        "backends_backend": "control-plane",
        "backends_lease": 1.5,
        "backends_retry_pause": 0.01,
        "control_plane_url": plane.url,
        "control_plane_shared_secret": SECRET,
        "deployment_saas_org_id": "org-1",
    } | settings
    async with contextlib.AsyncExitStack() as stack:
        core = await stack.enter_async_context(core_of(pool, dsn, settings_of(**given)))
        workspace = await stack.enter_async_context(open_workspace(core))
        backends = await stack.enter_async_context(
            open_backends(core, workspace, open_secrets(core).secrets, make_start_files(core))
        )
        loop = asyncio.create_task(_run(backends))
        worker = OperationWorker(Bench(core, workspace), backends, pool, loop)
        try:
            yield worker
        finally:
            await worker.stop()


async def _run(backends: BackendsSlice) -> None:
    await backends.slice.loops["operations"]()
