"""Reading a workspace's permitted hosts, and its refused connections."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.backends.egress import store
from molecule_grpc.backends.egress.values import View
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import NotFound


class EgressViews:
    """Shows the egress of workspaces."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of(self, workspace_id: UUID, within: UUID | None) -> View:
        """The egress of a live workspace.

        Args:
            within: the only organisation whose workspaces the caller may see; None for any.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        found = await store.view(self._pool, workspace_id, within)
        if found is None:
            raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
        return found
