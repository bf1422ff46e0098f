"""The workspace slice on a real database without a host."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import OPERATOR, Principal
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.server.call import Call
from molecule_grpc.settings.settings import Settings
from molecule_grpc.workspace.directory import Directory
from molecule_grpc.workspace.heartbeats import Heartbeats
from molecule_grpc.workspace.service import WorkspaceService
from molecule_grpc.workspace.store import workspaces
from tests.settings import settings_of

ORGANIZATION = workspaces.DEFAULT_ORGANIZATION
STATUSES = [one.name for one in workspace_pb2.Workspace.Status.DESCRIPTOR.values if one.number]


class Bench:
    """The slice without a host."""

    def __init__(self, pool: Pool, heartbeats: Heartbeats, chosen: Settings) -> None:
        self.pool = pool
        self.purged: list[UUID] = []
        self.woken: list[UUID] = []
        self.beaten: list[tuple[UUID, list[str]]] = []
        self.service = WorkspaceService(
            pool=pool,
            settings=chosen,
            directory=Directory(pool),
            heartbeats=heartbeats,
            beat_delegations=self._beat,
            on_purge=self._purge,
            wake=self.woken.extend,
        )

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
        return await self.pool.fetchval("SELECT status FROM workspaces WHERE id = $1", workspace)

    async def live_tokens(self, workspace: str) -> int:
        return await self.pool.fetchval(
            "SELECT count(*) FROM workspace_auth_tokens"
            " WHERE workspace_id = $1 AND revoked_at IS NULL",
            workspace,
        )

    async def _beat(self, workspace_id: UUID, delegation_ids: list[str]) -> None:
        self.beaten.append((workspace_id, delegation_ids))

    async def _purge(self, conn: Connection, workspace_ids: list[UUID]) -> None:
        assert await conn.fetchval("SELECT count(*) FROM workspaces") > 0
        self.purged.extend(workspace_ids)


def by(principal: Principal) -> Call:
    return Call(metadata={}, principal=principal)


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
    chosen = settings_of(**settings)
    async with Heartbeats(dsn, chosen) as heartbeats:
        yield Bench(pool, heartbeats, chosen)
