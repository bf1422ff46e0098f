"""The workspace of one node of a template: looked up, created, and completed.

A workspace is created together with its secrets, its files, its schedules and the request to start
it, or not at all. Its memories are stored afterwards; what of them is still to be stored is noted,
and the next import does it.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.auth.principal import Principal
from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.directory import Imported, ImportedNode, InitialMemory
from molecule_grpc.templates.fingerprints import fingerprints
from molecule_grpc.templates.ports import PutSchedules, Workspaces
from molecule_grpc.templates.preparing import Prepared
from molecule_grpc.templates.start_files import StartFiles
from molecule_grpc.templates.store import nodes as store
from molecule_grpc.templates.values import Node, Skipped


class Importer(NamedTuple):
    """Who imports which template, and into which organisation."""

    principal: Principal
    organization_id: UUID
    template: str


class NodeWorkspaces:
    """Finds and creates the workspaces of nodes.

    Args:
        put_schedules: keeps schedules of a workspace.
    """

    def __init__(
        self, pool: Pool, workspaces: Workspaces, files: StartFiles, put_schedules: PutSchedules
    ) -> None:
        self._pool = pool
        self._workspaces = workspaces
        self._files = files
        self._put_schedules = put_schedules

    async def find(self, importer: Importer, parent_id: UUID | None, node: Node) -> Imported | None:
        """The workspace of a node; None for none. Raises `Unavailable` without a database."""
        return await self._workspaces.find(importer.organization_id, parent_id, node.name)

    async def create(
        self, importer: Importer, parent_id: UUID | None, prepared: Prepared
    ) -> tuple[Imported, list[Skipped]]:
        """The workspace of a node, created where there is none, and schedules that are left out."""
        node, made = prepared.node, prepared.configured
        skipped: list[Skipped] = []

        async def also(conn: Connection, home: UUID, workspace_id: UUID) -> None:
            if made.files:
                await self._files.put(conn, home, workspace_id, made.files)
            skipped.extend(await self._schedule(conn, workspace_id, node))
            parts = fingerprints(node, made)
            await store.insert(conn, workspace_id, importer.template, parts, node.memories)

        row = _row(importer, parent_id, prepared)
        found = await self._workspaces.find_or_create(importer.principal, row, also)
        return found, skipped

    async def refresh(self, workspace_id: UUID, node: Node) -> list[Skipped]:
        """Put the schedules of a workspace that was there, as the template says them now."""
        if not node.schedules:
            return []
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                return await self._schedule(conn, workspace_id, node)

    async def known(self, workspace_id: UUID) -> store.ImportedRow | None:
        """What an earlier import has noted of a workspace."""
        with database_errors():
            return await store.get(self._pool, workspace_id)

    async def remember(self, workspace_id: UUID, memories: tuple[InitialMemory, ...]) -> None:
        """Store a workspace's first memories, and note in the node's row that they are stored."""
        if memories:
            await self._workspaces.remember(workspace_id, memories)
            with database_errors():
                await store.memories_stored(self._pool, workspace_id)

    async def _schedule(self, conn: Connection, workspace_id: UUID, node: Node) -> list[Skipped]:
        if not node.schedules:
            return []
        left_out = await self._put_schedules(conn, workspace_id, node.schedules)
        return [Skipped(*each) for each in left_out]


def _row(importer: Importer, parent_id: UUID | None, prepared: Prepared) -> ImportedNode:
    node, made = prepared.node, prepared.configured
    return ImportedNode(
        organization_id=importer.organization_id,
        parent_id=parent_id,
        name=node.name,
        role=node.role,
        tier=node.tier,
        runtime=made.runtime,
        model=made.model,
        external=node.external,
        url=node.url,
        template=node.template or importer.template,
        workspace_dir=node.workspace_dir,
        workspace_access=node.workspace_access,
        max_concurrent_tasks=node.max_concurrent_tasks,
        place=node.place,
        egress=node.egress,
        secrets=node.secrets,
    )
