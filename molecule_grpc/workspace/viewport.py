"""What part of the canvas people of an organisation look at."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.auth.principal import Principal
from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.workspace.scope import scope
from molecule_grpc.workspace.store import viewport as store
from molecule_grpc.workspace.store.viewport import View
from molecule_grpc.workspace.tree.placement import no_organization


class Viewports:
    """One for each organisation."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, principal: Principal, organization_id: UUID | None) -> View:
        """What was saved last; the middle of the canvas while nothing was.

        Args:
            organization_id: None for the caller's own; for the operator, the default one.

        Raises:
            NotFound: ORGANIZATION_NOT_FOUND: there is none, or not for this caller.
        """
        with database_errors():
            found = await store.get(self._pool, _home(principal, organization_id))
        if found is None:
            raise no_organization()
        return found

    async def save(self, principal: Principal, organization_id: UUID | None, view: View) -> None:
        """Save what is looked at now; the last write wins.

        Raises:
            NotFound: as `get`.
        """
        with database_errors():
            if not await store.save(self._pool, _home(principal, organization_id), view):
                raise no_organization()


def _home(principal: Principal, organization_id: UUID | None) -> UUID:
    visible = scope(principal)
    if organization_id is not None and visible not in (None, organization_id):
        raise no_organization()
    return organization_id or visible or DEFAULT_ORGANIZATION
