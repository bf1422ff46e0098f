"""Workspaces of templates: one of each name below a parent, however often they are imported."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from molecule_grpc.auth.principal import Principal
from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.directory import Imported, ImportedNode, InitialMemory
from molecule_grpc.kernel.errors import AlreadyExists
from molecule_grpc.workspace.creating import Also, Creation
from molecule_grpc.workspace.drafts import NewWorkspace
from molecule_grpc.workspace.scope import scope
from molecule_grpc.workspace.store import workspaces
from molecule_grpc.workspace.store.rows import Place
from molecule_grpc.workspace.subscriptions import Subscriptions
from molecule_grpc.workspace.tree import placement


class Imports:
    """Finds the workspaces of a template, and adds those that there are not."""

    def __init__(self, pool: Pool, creation: Creation, subscriptions: Subscriptions) -> None:
        self._pool = pool
        self._creation = creation
        self._subscriptions = subscriptions

    async def home(self, principal: Principal, wanted: UUID | None) -> UUID:
        """The organisation that a caller imports into.

        Raises:
            NotFound: ORGANIZATION_NOT_FOUND.
        """
        organization_id = placement.home(wanted, scope(principal))
        with database_errors():
            async with self._pool.acquire() as conn:
                if not await workspaces.organization_exists(conn, organization_id):
                    raise placement.no_organization()
        return organization_id

    async def find(
        self, organization_id: UUID, parent_id: UUID | None, name: str
    ) -> Imported | None:
        """The live workspace of that name below a parent, or among the roots for None.

        Raises:
            Unavailable: the database does not answer. Nothing is known then: do not create.
        """
        with database_errors():
            found = await workspaces.find_child(self._pool, organization_id, parent_id, name)
        return None if found is None else Imported(*found)

    async def find_or_create(
        self, principal: Principal, node: ImportedNode, also: Also
    ) -> Imported:
        """The workspace of a node: looked up first, and created where there is none.

        Args:
            also: what else is stored with a new workspace, in its transaction.

        Raises:
            Invalid, Conflict, Exhausted: as `Creation.create`.
        """
        found = await self.find(node.organization_id, node.parent_id, node.name)
        if found is not None:
            return found
        try:
            created = await self._creation.create(principal, _wanted(node), also=also)
        except AlreadyExists:
            # Another import of the same template was quicker.
            found = await self.find(node.organization_id, node.parent_id, node.name)
            if found is None:
                raise
            return found
        return Imported(created.id, created.status, created=True, reason=created.reason)

    async def remember(self, workspace_id: UUID, memories: Sequence[InitialMemory]) -> None:
        """Store a new workspace's first memories. A repeat stores nothing twice."""
        await self._subscriptions.created(workspace_id, memories)


def _wanted(node: ImportedNode) -> NewWorkspace:
    return NewWorkspace(
        organization_id=node.organization_id,
        parent_id=node.parent_id,
        name=node.name,
        role=node.role,
        tier=node.tier,
        runtime=node.runtime,
        external=node.external,
        url=node.url,
        max_concurrent_tasks=node.max_concurrent_tasks,
        place=None if node.place is None else Place(*node.place),
        template=node.template,
        model=node.model,
        workspace_dir=node.workspace_dir,
        workspace_access=node.workspace_access,
        egress=node.egress,
        secrets=node.secrets,
        imported=True,
    )
