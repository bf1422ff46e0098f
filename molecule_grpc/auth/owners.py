"""Remembers which organisation owns a workspace, until the workspace is purged."""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from molecule_grpc.auth import store
from molecule_grpc.db.pool import Pool, database_errors

_CACHE_SIZE = 50_000


class Owners:
    """Answers from memory for what is the asker's own; everything else is looked up each time.

    What is another's costs the same statement, with the same answer, as what does not exist: the
    time of a refusal tells nothing.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._organizations: OrderedDict[UUID, UUID] = OrderedDict()
        self._purges = 0

    async def owns(self, organization_id: UUID | None, workspace_id: UUID) -> bool:
        """Whether a workspace is this organisation's. Raises Unavailable: nobody can say."""
        if organization_id is None:
            return False
        if self._organizations.get(workspace_id) == organization_id:
            return True
        purges = self._purges
        with database_errors():
            owns = await store.owns(self._pool, organization_id, workspace_id)
        # A look that began before a purge may have seen the workspace that was deleted.
        if owns and purges == self._purges:
            self._organizations[workspace_id] = organization_id
            if len(self._organizations) > _CACHE_SIZE:
                self._organizations.popitem(last=False)
        return owns

    async def organization_of(self, workspace_id: UUID) -> UUID | None:
        """The organisation of a workspace; None for an unknown workspace."""
        with database_errors():
            return await store.organization_of(self._pool, workspace_id)

    def forget(self, workspace_id: UUID) -> None:
        """A workspace was purged: its id may become another organisation's."""
        self._purges += 1
        self._organizations.pop(workspace_id, None)

    def forget_all(self) -> None:
        """Purges may have been missed."""
        self._purges += 1
        self._organizations.clear()
