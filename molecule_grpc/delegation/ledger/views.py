"""Reading the ledger: for the two parties of a delegation, and for operators."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.ledger.moves import not_found
from molecule_grpc.delegation.ledger.store import overview, tallies, views
from molecule_grpc.delegation.ledger.store.overview import LedgerEntry
from molecule_grpc.delegation.ledger.store.views import DelegationRow
from molecule_grpc.kernel.ids import identifier
from molecule_grpc.kernel.page import page_of
from molecule_grpc.kernel.page_tokens import PageTokens

_DEFAULT_LIMIT = 50
_LISTING = "delegations"
# Ids, times and numbers of a listed delegation, and the start of its text that `summary` repeats.
_FIXED_BYTES = 1200


class DelegationPage(NamedTuple):
    """Some delegations, and the token of the next page; empty on the last page."""

    rows: list[DelegationRow]
    next_page_token: str


class LedgerViews:
    """Reads delegations for their parties and for operators."""

    def __init__(self, pool: Pool, page_tokens: PageTokens) -> None:
        self._pool = pool
        self._page_tokens = page_tokens

    async def get(self, workspace_id: UUID, delegation_id: str) -> DelegationRow:
        """One delegation with its whole result.

        Raises:
            NotFound: DELEGATION_NOT_FOUND: the workspace is no party of such a delegation.
        """
        row = await views.get(self._pool, workspace_id, identifier(delegation_id, "delegation_id"))
        if row is None:
            raise not_found(delegation_id)
        return row

    async def list_entries(
        self, wanted: str, organization_id: UUID | None, limit: int
    ) -> list[LedgerEntry]:
        """The newest delegations for operators; of one organisation, or of all.

        Args:
            wanted: `in_flight`, `stuck`, `failed` or `completed`.
        """
        return await overview.list_entries(self._pool, wanted, organization_id, limit)

    async def count_by_status(self, organization_id: UUID | None) -> dict[str, int]:
        """How many delegations have each status, of one organisation or of all."""
        return await tallies.count_by_status(self._pool, organization_id)

    async def list(
        self,
        workspace_id: UUID,
        *,
        limit: int = 0,
        status: str | None = None,
        direction: str | None = None,
        page_token: str = "",
    ) -> DelegationPage:
        """A page of the workspace's delegations, newest first, of at most 3 MiB.

        Args:
            limit: most delegations of the page; 0 for 50.
            direction: `sent` or `received`; None for both.

        Raises:
            Invalid: the page token is not one of ours.
        """
        limit = limit or _DEFAULT_LIMIT
        place = self._page_tokens.read(_LISTING, page_token, datetime, str)
        before = None if place is None else cast("tuple[datetime, str]", tuple(place))
        query = views.DelegationQuery(limit + 1, status, direction, before)
        rows = await views.list_rows(self._pool, workspace_id, query)
        page = page_of(rows, limit=limit, size=_wire_bytes)
        token = ""
        if page.last is not None:
            token = self._page_tokens.make(_LISTING, page.last.created_at, page.last.delegation_id)
        return DelegationPage(page.rows, token)


def _wire_bytes(row: DelegationRow) -> int:
    """About how much room a listed delegation takes in an answer; its result is not listed."""
    texts = (row.task_preview, row.error_detail, row.progress_note)
    return _FIXED_BYTES + sum(len(text.encode()) for text in texts if text)
