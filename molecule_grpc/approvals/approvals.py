"""The use cases of approvals: asking, listing, deciding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from molecule_grpc.approvals.store import asking, deciding, reading
from molecule_grpc.approvals.store.reading import Place
from molecule_grpc.approvals.values import Approval, Asked, Status
from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import Invalid, NotFound
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.page import Page, page_of
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.kernel.text import clean
from molecule_grpc.quotas import Quota, QuotaUse

MAX_CONTEXT_BYTES: Final = 16 * 1024
_LISTING: Final = "approvals"
_DEFAULT_LISTED: Final = 100
_ROW_BYTES: Final = 1024


class Approvals:
    """Requests for approvals.

    Args:
        quota: of pending requests of a workspace.
        default_seconds: until a request is denied that names no time.
        decided: begins to tell agents of decisions.
    """

    def __init__(
        self,
        pool: Pool,
        page_tokens: PageTokens,
        quota: Quota,
        *,
        default_seconds: int,
        decided: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._page_tokens = page_tokens
        self._quota = quota
        self._default_seconds = default_seconds
        self._decided = decided

    async def ask(self, workspace_id: UUID, asked: Asked) -> tuple[UUID, datetime]:
        """Store a request for approval. Returns its id, and the time at which the request expires.

        Raises:
            Invalid: names the field.
            NotFound: WORKSPACE_NOT_FOUND.
            Exhausted: QUOTA_EXCEEDED.
        """
        asked = checked(asked, self._default_seconds)
        approval_id = new_id()
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                if not await asking.lock(conn, workspace_id):
                    raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
                if self._quota.exceeded(await asking.count_pending(conn, workspace_id)):
                    raise self._quota.refusal(workspace_id)
                return approval_id, await asking.insert(conn, approval_id, workspace_id, asked)

    async def decide(
        self,
        workspace_id: UUID,
        approval_id: UUID,
        within: UUID | None,
        status: Status,
        decided_by: str,
    ) -> None:
        """Decide a pending request; the same decision again changes nothing.

        Args:
            within: the only organisation that the workspace may be of; None for any.

        Raises:
            NotFound: APPROVAL_NOT_FOUND, or APPROVAL_NOT_PENDING.
        """
        decided_by = clean(decided_by)
        with database_errors():
            found = await reading.get(self._pool, approval_id, workspace_id, within)
            if found is None:
                raise NotFound("approval not found", reason="APPROVAL_NOT_FOUND")
            if await deciding.decide(self._pool, approval_id, workspace_id, status, decided_by):
                self._decided()
                return
            found = await reading.get(self._pool, approval_id, workspace_id, within)
        if found is None or found.status is not status:
            raise NotFound(
                "the approval is not pending any more",
                reason="APPROVAL_NOT_PENDING",
                metadata={"status": found.status if found is not None else ""},
            )

    async def of_workspace(
        self, workspace_id: UUID, *, limit: int, page_token: str
    ) -> Page[Approval]:
        """Requests of a workspace, newest first.

        Args:
            limit: most of the page; 0 means 100.

        Raises:
            Invalid: the page token is not one of ours.
        """
        limit = limit or _DEFAULT_LISTED
        with database_errors():
            found = await reading.of_workspace(
                self._pool, workspace_id, behind=self._place(page_token), limit=limit + 1
            )
        return page_of(found, limit=limit, size=_size)

    async def pending(
        self, organization_id: UUID | None, *, limit: int, page_token: str
    ) -> Page[Approval]:
        """Pending requests of an organisation, or of all, newest first; otherwise as above."""
        limit = limit or _DEFAULT_LISTED
        with database_errors():
            found = await reading.pending(
                self._pool, organization_id, behind=self._place(page_token), limit=limit + 1
            )
        return page_of(found, limit=limit, size=_size)

    def token_after(self, row: Approval) -> str:
        """The token of the page that begins behind a row."""
        return self._page_tokens.make(_LISTING, row.created_at, row.id)

    async def quota_uses(self, _: UUID, workspace_id: UUID | None) -> list[QuotaUse]:
        """Use of a workspace's quota of pending requests."""
        if workspace_id is None:
            return []
        return [QuotaUse(self._quota, await asking.count_pending(self._pool, workspace_id))]

    def _place(self, page_token: str) -> Place | None:
        parts = self._page_tokens.read(_LISTING, page_token, datetime, UUID)
        return None if parts is None else Place(*parts)  # type: ignore[arg-type]


def checked(asked: Asked, default_seconds: int) -> Asked:
    """A request as it is stored.

    Raises:
        Invalid: names the field.
    """
    action = clean(asked.action)
    if not action.strip():
        raise Invalid("action must not be blank", field="action")
    if asked.context is not None and len(asked.context.encode()) > MAX_CONTEXT_BYTES:
        raise Invalid(f"context must have at most {MAX_CONTEXT_BYTES} bytes", field="context")
    return dataclasses.replace(
        asked,
        action=action,
        reason=clean(asked.reason),
        task_id=clean(asked.task_id),
        seconds=asked.seconds or default_seconds,
    )


def _size(row: Approval) -> int:
    """Bytes of a request on the wire, about."""
    texts = (row.action, row.reason, row.context or "")
    return _ROW_BYTES + sum(len(text.encode()) for text in texts)
