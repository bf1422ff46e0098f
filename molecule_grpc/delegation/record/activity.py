"""The activity record of workspaces: reading it, and adding reports and notices of agents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.record.rules import DEFAULT_ACTIVITY_LIMIT
from molecule_grpc.delegation.record.store import queries
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.delegation.record.store.queries import ActivityFilter, ActivityRow
from molecule_grpc.delegation.record.writes import RecordWrites
from molecule_grpc.directory import Directory
from molecule_grpc.kernel.budget import Turns
from molecule_grpc.kernel.errors import Denied, Exhausted, Invalid, NotFound, OutOfRange
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.json_text import to_text
from molecule_grpc.kernel.page import Page
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.kernel.payer import OPERATOR_PAYS, payer
from molecule_grpc.kernel.text import clean, cut_chars

DEFAULT_HITS = 50
_SUMMARY_CHARS = 80
_LISTING = "activity"


class ActivityQuery(NamedTuple):
    """Which rows of a workspace's record to list.

    Args:
        after_id: rows after this one, oldest first; None lists the newest rows first.
        from_oldest: without `after_id`, begin with the oldest row.
        limit: most rows of the answer.
        page_token: from the page before, which had the same filters; empty for the first page.
            Wins over `after_id`.
    """

    workspace_id: UUID
    chosen: ActivityFilter = ActivityFilter()
    after_id: UUID | None = None
    from_oldest: bool = False
    limit: int = DEFAULT_ACTIVITY_LIMIT
    page_token: str = ""


class ActivityPage(NamedTuple):
    """Rows of a workspace's record.

    Args:
        more: whether the list goes on behind the last row.
    """

    rows: Sequence[ActivityRow]
    more: bool
    oldest_first: bool


class _Place(NamedTuple):
    """What a page token says: the order of its list, and the last row of the page before."""

    oldest_first: bool
    created_at: datetime
    record_seq: int


class Report(NamedTuple):
    """A row for the agent's own record. Bodies and the trace are JSON text.

    Args:
        source_id: whom the agent claims to be, as it wrote it; empty for itself.
    """

    workspace_id: UUID
    activity_type: str
    source_id: str = ""
    target_id: UUID | None = None
    method: str = ""
    summary: str = ""
    status: str = ""
    error_detail: str = ""
    duration_ms: int | None = None
    request_body: str | None = None
    response_body: str | None = None
    tool_trace: str | None = None


class Attachment(NamedTuple):
    """A file that an agent's words to the human come with. `size` is in bytes."""

    uri: str
    name: str
    mime_type: str = ""
    size: float | None = None


class ActivityRecord:
    """Keeps and reads each workspace's record.

    Args:
        searches: counts the searches that run: each reads a whole record.
        search_seconds: seconds after which a search is given up.
    """

    def __init__(
        self,
        pool: Pool,
        records: RecordWrites,
        directory: Directory,
        page_tokens: PageTokens,
        searches: Turns,
        *,
        search_seconds: float,
    ) -> None:
        self._pool = pool
        self._records = records
        self._directory = directory
        self._page_tokens = page_tokens
        self._searches = searches
        self._search_seconds = search_seconds

    async def list(self, query: ActivityQuery) -> ActivityPage:
        """Rows of a workspace's record, as pollers ask for them, in a page of about 3 MiB.

        Raises:
            OutOfRange: CURSOR_PRUNED, `after_id` is no row of this workspace.
            Invalid: the page token is not one of ours.
        """
        workspace_id, chosen, limit = query.workspace_id, query.chosen, query.limit
        place = self._place(query.page_token)
        oldest_first = (
            place.oldest_first if place else query.from_oldest or query.after_id is not None
        )
        if not oldest_first:
            before = None if place is None else (place.created_at, place.record_seq)
            page = await queries.list_rows(
                self._pool, workspace_id, chosen, before=before, limit=limit
            )
            return ActivityPage(page.rows, page.more, oldest_first)
        if place is not None:
            horizon = place.created_at - queries.HORIZON
            cursor: queries.Cursor | None = queries.Cursor(place.record_seq, horizon)
        elif query.after_id is None:
            cursor = queries.BEGINNING
        else:
            cursor = await queries.cursor(self._pool, workspace_id, query.after_id)
        if cursor is None:
            raise cursor_pruned()
        page = await queries.list_rows_after(
            self._pool, workspace_id, chosen, cursor=cursor, limit=limit
        )
        return ActivityPage(page.rows, page.more, oldest_first)

    def token_after(self, page: ActivityPage, row: ActivityRow) -> str:
        """The token of the page that begins behind a row of this one."""
        return self._page_tokens.make(
            _LISTING, int(page.oldest_first), row.created_at, row.record_seq
        )

    def _place(self, page_token: str) -> _Place | None:
        parts = self._page_tokens.read(_LISTING, page_token, int, datetime, int)
        if parts is None:
            return None
        oldest_first, created_at, record_seq = cast("tuple[int, datetime, int]", tuple(parts))
        return _Place(bool(oldest_first), created_at, record_seq)

    async def get(self, workspace_id: UUID, activity_id: UUID) -> ActivityRow:
        """One row of a workspace's record. Raises `NotFound` when there is none."""
        row = await queries.get(self._pool, workspace_id, activity_id)
        if row is None:
            raise NotFound("activity not found")
        return row

    async def search(
        self,
        workspace_id: UUID,
        text: str,
        *,
        limit: int = DEFAULT_HITS,
        before: tuple[datetime, int] | None = None,
    ) -> Page[ActivityRow]:
        """Rows of a workspace's record that contain a text, newest first, in a page of about 3 MiB.

        Args:
            limit: most rows of the page.
            before: only rows behind this time and number.

        Raises:
            Exhausted: the search took too long, or too many others of its organisation wait.
        """
        seconds = self._search_seconds
        async with self._searches.turn(**(payer.get() or OPERATOR_PAYS).keys):
            try:
                return await queries.search(
                    self._pool,
                    workspace_id,
                    clean(text),
                    before=before,
                    limit=limit,
                    seconds=seconds,
                )
            except TimeoutError as error:
                raise Exhausted(f"the search took longer than {seconds:g} s") from error

    async def report(self, report: Report) -> None:
        """Add to the caller's own record. Never an inbox item.

        Raises:
            Denied: SOURCE_SPOOFED.
            NotFound: WORKSPACE_NOT_FOUND.
            Exhausted: QUOTA_EXCEEDED: the organisation has recorded its bytes of the day.
        """
        workspace_id = report.workspace_id
        if report.source_id and report.source_id.lower() != str(workspace_id):
            raise Denied("source_id must be the calling workspace", reason="SOURCE_SPOOFED")
        await self._require(workspace_id)
        await self._records.append(
            Entry(
                workspace_id=workspace_id,
                activity_id=new_id(),
                activity_type=report.activity_type,
                method=clean(report.method) or None,
                source_id=workspace_id,
                target_id=report.target_id,
                summary=clean(report.summary) or None,
                duration_ms=report.duration_ms,
                status=clean(report.status) or "ok",
                error_detail=clean(report.error_detail) or None,
                request_body=report.request_body,
                response_body=report.response_body,
                tool_trace=report.tool_trace,
            )
        )

    async def notify(
        self, workspace_id: UUID, message: str, attachments: Sequence[Attachment] = ()
    ) -> None:
        """Let an agent speak to the human. Recorded; never an inbox item.

        Raises:
            Invalid: the message is empty, or an attachment lacks its URI or name.
            NotFound: WORKSPACE_NOT_FOUND.
            Exhausted: QUOTA_EXCEEDED: the organisation has recorded its bytes of the day.
        """
        message = clean(message)
        if not message:
            raise Invalid("message is required", field="message")
        body: dict[str, object] = {"result": message}
        if attachments:
            body["parts"] = [_file_part(n, each) for n, each in enumerate(attachments)]
        await self._require(workspace_id)
        await self._records.append(
            Entry(
                workspace_id=workspace_id,
                activity_id=new_id(),
                activity_type="a2a_receive",
                method="notify",
                summary="Agent message: " + cut_chars(message, _SUMMARY_CHARS),
                response_body=to_text(body, "attachments"),
            )
        )

    async def _require(self, workspace_id: UUID) -> None:
        if await self._directory.lookup(workspace_id) is None:
            raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")


def cursor_pruned() -> OutOfRange:
    """How a poller reads that its cursor is no row of the record."""
    return OutOfRange(
        "since_id cursor not found (pruned or unknown); omit since_id to reset",
        reason="CURSOR_PRUNED",
    )


def _file_part(index: int, attachment: Attachment) -> dict[str, object]:
    if not attachment.uri or not attachment.name:
        raise Invalid(
            f"attachment[{index}]: uri and name are required", field=f"attachments[{index}]"
        )
    file: dict[str, object] = {"uri": clean(attachment.uri), "name": clean(attachment.name)}
    if attachment.mime_type:
        file["mimeType"] = clean(attachment.mime_type)
    if attachment.size is not None:
        if not math.isfinite(attachment.size):
            raise Invalid(
                f"attachment[{index}]: size is a number out of range",
                field=f"attachments[{index}].size",
            )
        file["size"] = attachment.size
    return {"kind": "file", "file": file}
