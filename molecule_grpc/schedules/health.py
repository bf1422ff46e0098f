"""Whether schedules fire as often as they should: for administrators, and for other workspaces."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.directory import Directory
from molecule_grpc.kernel.errors import Invalid, Unauthenticated
from molecule_grpc.kernel.page import Page, page_of
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.schedules import rules
from molecule_grpc.schedules.refusals import no_workspace
from molecule_grpc.schedules.store import reading
from molecule_grpc.schedules.store.reading import Place
from molecule_grpc.schedules.values import Judged

_LISTING: Final = "schedule health"
_DEFAULT_LISTED: Final = 100


class HealthViews:
    """Judges schedules."""

    def __init__(self, pool: Pool, directory: Directory, page_tokens: PageTokens) -> None:
        self._pool = pool
        self._directory = directory
        self._page_tokens = page_tokens

    async def of_peer(
        self,
        principal: Principal,
        workspace_id: UUID,
        on_behalf_of: UUID | None,
        *,
        limit: int,
        page_token: str,
    ) -> Page[Judged]:
        """The schedules of a workspace that the caller may talk to, or of the caller's own.

        Args:
            on_behalf_of: the workspace that asks; None for the principal's own.

        Raises:
            Invalid: nobody is named, and the principal is no workspace.
            Unauthenticated: a workspace asks for another one.
            NotFound: WORKSPACE_NOT_FOUND.
            Denied: NOT_RELATED.
        """
        caller = on_behalf_of or principal.workspace_id
        if caller is None:
            raise Invalid("X-Workspace-ID header is required", field="caller_id")
        if principal.role is Role.WORKSPACE and principal.workspace_id != caller:
            raise Unauthenticated("invalid workspace auth token")
        await self._require_visible(principal, caller)
        if caller != workspace_id:
            await self._directory.require_reachable(caller, workspace_id)
        return await self._page(None, workspace_id, limit=limit, page_token=page_token)

    async def of_all(
        self, organization_id: UUID | None, *, limit: int, page_token: str
    ) -> Page[Judged]:
        """The schedules of an organisation, or of all of them."""
        return await self._page(organization_id, None, limit=limit, page_token=page_token)

    def token_after(self, last: Judged) -> str:
        """The token of the page that begins behind a row."""
        row = last.row
        return self._page_tokens.make(
            _LISTING, row.workspace_name, row.schedule_name, row.schedule_id
        )

    async def _require_visible(self, principal: Principal, caller: UUID) -> None:
        found = await self._directory.lookup(caller)
        if found is None or principal.organization_id not in (None, found.organization_id):
            raise no_workspace()

    async def _page(
        self,
        organization_id: UUID | None,
        workspace_id: UUID | None,
        *,
        limit: int,
        page_token: str,
    ) -> Page[Judged]:
        parts = self._page_tokens.read(_LISTING, page_token, str, str, UUID)
        behind = None if parts is None else Place(*parts)  # type: ignore[arg-type]
        limit = limit or _DEFAULT_LISTED
        with database_errors():
            found = await reading.health(
                self._pool, organization_id, workspace_id, behind=behind, limit=limit + 1
            )
        now = datetime.now(UTC)
        return page_of((Judged(row, *rules.judge(row, now)) for row in found), limit=limit)
