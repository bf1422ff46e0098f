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
_ENTRIES = "ledger"
# Ids, times and numbers of a listed delegation, and the start of its text that `summary` repeats.
_FIXED_BYTES = 1200


class DelegationPage(NamedTuple):
    """Some delegations, and the token of the next page; empty on the last page."""

    rows: list[DelegationRow]
    next_page_token: str


class EntryPage(NamedTuple):
    """Some delegations as operators see them, and the token of the next page; empty on the last."""

    entries: list[LedgerEntry]
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
        self, wanted: str, organization_id: UUID | None, *, limit: int, page_token: str = ""
    ) -> EntryPage:
        """A page of delegations for operators, newest first, of at most 3 MiB.

        Args:
            wanted: `in_flight`, `stuck`, `failed` or `completed`.
            organization_id: only of this organisation; None for all.

        Raises:
            Invalid: the page token is not one of ours.
        """
        before = self._place(_ENTRIES, page_token)
        entries = await overview.list_entries(
            self._pool, wanted, organization_id, before=before, limit=limit + 1
        )
        page = page_of(entries, limit=limit, size=_entry_bytes)
        return EntryPage(page.rows, self._token_after(_ENTRIES, page.last))

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
        before = self._place(_LISTING, page_token)
        query = views.DelegationQuery(limit + 1, status, direction, before)
        rows = await views.list_rows(self._pool, workspace_id, query)
        page = page_of(rows, limit=limit, size=_wire_bytes)
        return DelegationPage(page.rows, self._token_after(_LISTING, page.last))

    def _place(self, listing: str, page_token: str) -> tuple[datetime, str] | None:
        parts = self._page_tokens.read(listing, page_token, datetime, str)
        return None if parts is None else cast("tuple[datetime, str]", tuple(parts))

    def _token_after(self, listing: str, last: DelegationRow | LedgerEntry | None) -> str:
        """The token of the page behind a row; empty when there is none."""
        if last is None:
            return ""
        return self._page_tokens.make(listing, last.created_at, last.delegation_id)


def _entry_bytes(row: LedgerEntry) -> int:
    """About how much room a delegation takes in an answer to operators."""
    texts = (row.task_preview, row.result_preview, row.error_detail)
    return _FIXED_BYTES + sum(len(text.encode()) for text in texts if text)


def _wire_bytes(row: DelegationRow) -> int:
    """About how much room a listed delegation takes in an answer; its result is not listed."""
    texts = (row.task_preview, row.error_detail, row.progress_note)
    return _FIXED_BYTES + sum(len(text.encode()) for text in texts if text)
