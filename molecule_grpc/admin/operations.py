"""What operators may ask for: which delegations, which dead letters, how old a message."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple, cast
from uuid import UUID

from molecule_grpc.admin import store
from molecule_grpc.admin.ports import (
    DeadLetter,
    DeadLetterPlace,
    DeadLetters,
    DropStale,
    LedgerPage,
    LedgerViews,
)
from molecule_grpc.auth import audit_store
from molecule_grpc.auth.audit_store import AuditEntry
from molecule_grpc.db.pool import Pool
from molecule_grpc.events.values import Position, StoredEvent
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.page import Page, page_of
from molecule_grpc.kernel.page_tokens import PageTokens

LEDGER_FILTERS = ("in_flight", "stuck", "failed", "completed")

_MAX_LISTED = 1000
_EVENTS = "events"
_LISTING = "dead-letters"
_AUDIT = "audit-log"
# Ids, times and numbers of a dead letter.
_FIXED_BYTES = 200
# Ten years: longer than anything waits, and safe to subtract from a timestamp.
_MAX_MINUTES = 10 * 365 * 24 * 60


class DeadLetterPage(NamedTuple):
    """Some dead letters, and the token of the next page; empty on the last page."""

    items: list[DeadLetter]
    next_page_token: str


class AuditPage(NamedTuple):
    """Some entries of the audit log, and the token of the next page; empty on the last page."""

    entries: list[AuditEntry]
    next_page_token: str


class Operations:
    """Serves operators, and organisations within their own rows.

    `organization_id` is the only organisation whose rows a caller may see; None means all.
    """

    def __init__(
        self,
        pool: Pool,
        page_tokens: PageTokens,
        ledger: LedgerViews,
        dead_letters: DeadLetters,
        drop_stale: DropStale,
    ) -> None:
        self._pool = pool
        self._page_tokens = page_tokens
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._drop_stale = drop_stale

    async def delegations(
        self, wanted: str, *, limit: int, page_token: str, organization_id: UUID | None
    ) -> LedgerPage:
        """A page of delegations under a filter, newest first, of at most 3 MiB.

        Args:
            wanted: one of `LEDGER_FILTERS`.
            limit: most delegations of the page, 1 to 1000.
            page_token: from the page before; empty for the first page.

        Raises:
            Invalid: no such filter, the limit is out of range, or the page token is not one of
                ours.
        """
        if wanted not in LEDGER_FILTERS:
            raise Invalid(
                "unknown status filter",
                field="status",
                metadata={"allowed": ", ".join(LEDGER_FILTERS)},
                body={"allowed": list(LEDGER_FILTERS), "requested_status": wanted},
            )
        if not 1 <= limit <= _MAX_LISTED:
            raise Invalid(f"limit must be 1..{_MAX_LISTED}", field="limit")
        return await self._ledger.list_entries(
            wanted, organization_id, limit=limit, page_token=page_token
        )

    async def dead_letters(
        self,
        *,
        workspace_id: UUID | None,
        limit: int,
        page_token: str,
        organization_id: UUID | None,
    ) -> DeadLetterPage:
        """A page of dead letters, newest first, of at most 3 MiB.

        Args:
            workspace_id: only of this workspace; None for all.
            limit: most items of the page.
            page_token: from the page before; empty for the first page.

        Raises:
            Invalid: the page token is not one of ours.
        """
        place = self._page_tokens.read(_LISTING, page_token, datetime, UUID, int)
        items = await self._dead_letters.list_rows(
            organization_id=organization_id,
            workspace_id=workspace_id,
            before=None if place is None else cast("DeadLetterPlace", tuple(place)),
            limit=limit + 1,
        )
        page = page_of(items, limit=limit, size=_wire_bytes)
        token = ""
        if (last := page.last) is not None:
            token = self._page_tokens.make(_LISTING, last.done_at, last.workspace_id, last.seq)
        return DeadLetterPage(page.rows, token)

    async def audit_entries(
        self,
        *,
        workspace_id: UUID | None,
        limit: int,
        page_token: str,
        organization_id: UUID | None,
    ) -> AuditPage:
        """A page of the audit log, newest first.

        Args:
            workspace_id: only what concerns this workspace; None for all.
            limit: most entries of the page.
            page_token: from the page before; empty for the first page.

        Raises:
            Invalid: the page token is not one of ours.
        """
        place = self._page_tokens.read(_AUDIT, page_token, datetime, UUID)
        entries = await audit_store.newest(
            self._pool,
            organization_id=organization_id,
            workspace_id=workspace_id,
            before=None if place is None else cast("tuple[datetime, UUID]", tuple(place)),
            limit=limit + 1,
        )
        page = page_of(entries, limit=limit)
        token = ""
        if (last := page.last) is not None:
            token = self._page_tokens.make(_AUDIT, last.at, last.id)
        return AuditPage(page.rows, token)

    async def drop_stale(
        self, minutes: int, workspace_id: UUID | None, organization_id: UUID | None
    ) -> int:
        """Let go of messages that have waited at least this long for agents; how many.

        Args:
            workspace_id: only for this workspace; None for all.

        Raises:
            Invalid: less than a minute.
        """
        if minutes < 1:
            raise Invalid("max_age_minutes must be at least 1", field="max_age_minutes")
        age = timedelta(minutes=min(minutes, _MAX_MINUTES))
        return await self._drop_stale(age, workspace_id, organization_id)

    async def newest_events(
        self,
        *,
        workspace_id: UUID | None,
        limit: int,
        page_token: str,
        organization_id: UUID | None,
    ) -> Page[StoredEvent]:
        """A page of kept events, newest first, of about 3 MiB.

        Args:
            workspace_id: only of this workspace; None for all.
            limit: most events of the page.
            page_token: from the page before; empty for the first page.

        Raises:
            Invalid: the page token is not one of ours.
        """
        place = self._page_tokens.read(_EVENTS, page_token, int, int)
        return await store.newest_events(
            self._pool,
            organization_id,
            workspace_id,
            before=None if place is None else Position(*cast("tuple[int, int]", tuple(place))),
            limit=limit,
        )

    def token_after(self, event: StoredEvent) -> str:
        """The token of the page of `newest_events` that begins behind an event."""
        return self._page_tokens.make(_EVENTS, event.place.xact, event.place.position)


def _wire_bytes(item: DeadLetter) -> int:
    """About how much room a dead letter takes in an answer."""
    texts = (item.message_id, item.method, item.delegation_id, item.reason, item.summary)
    return _FIXED_BYTES + sum(len(text.encode()) for text in texts if text)
