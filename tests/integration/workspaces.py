"""The workspace slice on a real database without a host."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import OPERATOR, Principal
from molecule_grpc.core import Core
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.server.call import Call
from molecule_grpc.workspace.wiring import WorkspaceSlice, open_workspace
from tests.integration.cores import core_of
from tests.settings import settings_of

ORGANIZATION = DEFAULT_ORGANIZATION
STATUSES = [one.name for one in workspace_pb2.Workspace.Status.DESCRIPTOR.values if one.number]


class Bench:
    """The slice without a host, and what its subscribers were told."""

    def __init__(self, core: Core, workspace: WorkspaceSlice) -> None:
        self.core = core
        self.pool = core.pool
        self.workspace = workspace
        self.service = workspace.service
        self.removing: list[UUID] = []
        self.purged: list[UUID] = []
        self.woken: list[UUID] = []
        self.beaten: list[tuple[UUID, list[str]]] = []
        workspace.on_active_delegations(self._beat)
        workspace.on_remove(self._remove)
        workspace.on_purge(self._purge)
        workspace.on_removed(self.woken.extend)

    async def create(self, name: str, parent: str = "", *, organization: str = "") -> str:
        request = pb.CreateWorkspaceRequest(
            name=name, external=True, parent_id=parent, organization_id=organization
        )
        return (await self.service.CreateWorkspace(request, by(OPERATOR))).id

    async def move(self, workspace: str, parent: str) -> None:
        request = pb.UpdateWorkspaceRequest(workspace_id=workspace)
        request.parent_id.string_value = parent
        await self.service.UpdateWorkspace(request, by(OPERATOR))

    async def delete(self, workspace: str, **flags: bool) -> pb.DeleteWorkspaceResponse:
        request = pb.DeleteWorkspaceRequest(workspace_id=workspace, **flags)
        return await self.service.DeleteWorkspace(request, by(OPERATOR))

    async def register(
        self, workspace: str, principal: Principal = OPERATOR, **fields: Any
    ) -> pb.RegisterResponse:
        request = pb.RegisterRequest(id=workspace, **fields)
        request.agent_card.string_value = "card"
        return await self.service.Register(request, by(principal))

    async def status(self, workspace: str) -> str | None:
        found: str | None = await self.pool.fetchval(
            "SELECT status FROM workspaces WHERE id = $1", workspace
        )
        return found

    async def live_tokens(self, workspace: str) -> int:
        count: int = await self.pool.fetchval(
            "SELECT count(*) FROM workspace_auth_tokens"
            " WHERE workspace_id = $1 AND revoked_at IS NULL",
            workspace,
        )
        return count

    async def _beat(self, workspace_id: UUID, delegation_ids: list[str]) -> None:
        self.beaten.append((workspace_id, delegation_ids))

    async def _remove(self, conn: Connection, workspace_ids: list[UUID]) -> None:
        assert await conn.fetchval("SELECT count(*) FROM workspaces WHERE status = 'removed'") > 0
        self.removing.extend(workspace_ids)

    async def _purge(self, conn: Connection, workspace_ids: list[UUID]) -> None:
        assert await conn.fetchval("SELECT count(*) FROM workspaces") > 0
        self.purged.extend(workspace_ids)


def by(principal: Principal) -> Call:
    return Call(metadata={}, principal=principal)


async def one_row(pool: Pool, sql: str, *arguments: object) -> asyncpg.Record:
    """The single row of a query."""
    row = await pool.fetchrow(sql, *arguments)
    assert row is not None
    return row


async def add(pool: Pool, count: int = 1, **columns: Any) -> list[UUID]:
    """Rows as they may stand in an old database."""
    values: dict[str, Any] = {"organization_id": ORGANIZATION, "tier": 3, **columns}
    if values.get("status") == "failed":
        values.setdefault("last_sample_error", "why it failed")
    marks = ", ".join(f"${n}" for n in range(3, len(values) + 3))
    ids = [new_id() for _ in range(count)]
    await pool.executemany(
        f"INSERT INTO workspaces (id, name, {', '.join(values)}) VALUES ($1, $2, {marks})",
        [(one, str(one), *values.values()) for one in ids],
    )
    return ids


async def add_organization(pool: Pool) -> UUID:
    organization = new_id()
    await pool.execute(
        "INSERT INTO organizations (id, slug, name) VALUES ($1, $2, $2)",
        organization,
        organization.hex,
    )
    return organization


@contextlib.asynccontextmanager
async def bench_of(pool: Pool, dsn: str, **settings: Any) -> AsyncIterator[Bench]:
    """The slice over this database."""
    async with (
        core_of(pool, dsn, settings_of(**settings)) as core,
        open_workspace(core) as workspace,
    ):
        yield Bench(core, workspace)
