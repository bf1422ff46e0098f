"""Reading the operations of a workspace."""

from __future__ import annotations

from datetime import datetime
from typing import Final, cast
from uuid import UUID

from molecule_grpc.backends.operations.store import history as store
from molecule_grpc.backends.operations.values import Past
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.kernel.page import Page, page_of
from molecule_grpc.kernel.page_tokens import PageTokens

_DEFAULT_LISTED: Final = 50
_LISTING: Final = "operations"


class History:
    """Lists operations."""

    def __init__(self, pool: Pool, page_tokens: PageTokens) -> None:
        self._pool = pool
        self._page_tokens = page_tokens

    async def list_of(
        self, workspace_id: UUID, within: UUID | None, *, limit: int, page_token: str
    ) -> Page[Past]:
        """Operations of a workspace, newest first.

        Args:
            within: the only organisation whose workspaces the caller may see; None for any.
            limit: most of the page; 0 means 50.
            page_token: from the page before; empty for the first page.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: there is no such workspace, and nothing is left of one.
            Invalid: the page token is not one of ours.
        """
        parts = self._page_tokens.read(_LISTING, page_token, datetime, UUID)
        before = None if parts is None else cast("tuple[datetime, UUID]", tuple(parts))
        limit = limit or _DEFAULT_LISTED
        rows = await store.list_of(self._pool, workspace_id, within, limit=limit + 1, before=before)
        if not rows and not await store.known(self._pool, workspace_id, within):
            raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
        return page_of(rows, limit=limit)

    def token_after(self, row: Past) -> str:
        """The token of the page that begins behind an operation."""
        return self._page_tokens.make(_LISTING, row.created_at, row.id)
