"""The activity record: requests to values, rows to protos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from moleculeai.delegation.v1 import activity_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.auth.principal import Role
from molecule_grpc.delegation.conversion.bodies import clear_body, put_body
from molecule_grpc.delegation.record import rules
from molecule_grpc.delegation.record.a2a import text_of
from molecule_grpc.delegation.record.activity import (
    ActivityQuery,
    Attachment,
    Report,
    cursor_pruned,
)
from molecule_grpc.delegation.record.session_search import Hit, SessionMemory
from molecule_grpc.delegation.record.store.queries import ActivityFilter, ActivityRow
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.ids import identifier, parse_id
from molecule_grpc.kernel.json_text import to_text
from molecule_grpc.kernel.json_values import read_value
from molecule_grpc.kernel.numbers import unmarked
from molecule_grpc.kernel.page import MAX_ROW_BYTES, MessagePage, Page, message_page, page_in_slices
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.kernel.slices import Slices
from molecule_grpc.server.call import Call

_Body = Literal["request_body", "response_body", "tool_trace"]


def activity_query(request: pb.ListActivityRequest, call: Call) -> ActivityQuery:
    """What a poller asks for.

    Raises:
        Invalid: `since_secs` or `before_ts` cannot be read.
        OutOfRange: CURSOR_PRUNED, `since_id` is no id.
    """
    return ActivityQuery(
        workspace_id=UUID(request.workspace_id),
        chosen=ActivityFilter(
            type=identifier(request.type, "type") or None,
            source=request.source or None,
            peer_id=UUID(request.peer_id) if request.peer_id else None,
            since=rules.since(request.since_secs, datetime.now(UTC)),
            before=rules.timestamp(request.before_ts, "before_ts"),
        ),
        after_id=_cursor(request.since_id) if request.since_id else None,
        from_oldest=_begins_polling(request, call),
        limit=rules.activity_limit(request.limit),
        page_token=request.page_token,
    )


async def report(request: pb.ReportActivityRequest, call: Call) -> Report:
    """What an agent reports.

    Raises:
        Invalid: a body cannot be stored and read back; names its field.
    """
    return Report(
        workspace_id=UUID(request.workspace_id),
        activity_type=request.activity_type,
        source_id=request.source_id,
        target_id=UUID(request.target_id) if request.target_id else None,
        method=request.method,
        summary=request.summary,
        status=request.status,
        error_detail=request.error_detail,
        duration_ms=request.duration_ms if request.HasField("duration_ms") else None,
        request_body=await _body(request, "request_body", call),
        response_body=await _body(request, "response_body", call),
        tool_trace=await _body(request, "tool_trace", call),
    )


def attachment(message: pb.Attachment) -> Attachment:
    """A file that a notice comes with."""
    size = message.size if message.HasField("size") else None
    return Attachment(message.uri, message.name, message.mime_type, size)


async def activity(
    row: ActivityRow, call: Call, slices: Slices | None = None
) -> activity_pb2.Activity:
    """A row of the record."""
    slices = slices or Slices()
    message = activity_pb2.Activity(
        id=str(row.id),
        workspace_id=str(row.workspace_id),
        activity_type=row.activity_type,
        source_id=_text(row.source_id),
        target_id=_text(row.target_id),
        method=row.method,
        summary=row.summary,
        duration_ms=row.duration_ms,
        status=row.status,
        error_detail=row.error_detail,
        created_at=timestamp(row.created_at),
        seq=row.inbox_seq,
    )
    await put_body(message, "request_body", row.request_body, call, slices)
    await put_body(message, "response_body", row.response_body, call, slices)
    await put_body(message, "tool_trace", row.tool_trace, call, slices)
    if row.answerable:
        message.data.CopyFrom(_data(row))
    return message


async def activities(rows: Sequence[ActivityRow], call: Call) -> Page[activity_pb2.Activity]:
    """The first rows, as many as fit in 3 MiB on the wire. At least one.

    A row that alone exceeds what a stock gRPC client takes comes without its trace, and then
    without its bodies: GetActivity has them.
    """
    slices = Slices()
    messages = (await activity(row, call, slices) async for row in slices.each(rows))
    page = await page_in_slices(messages, limit=len(rows), size=activity_pb2.Activity.ByteSize)
    for name in _LARGE:
        if page.rows and page.rows[0].ByteSize() > MAX_ROW_BYTES:
            clear_body(page.rows[0], name)
    return page


async def session_hit(hit: Hit, call: Call, slices: Slices) -> pb.SessionHit:
    """A row of the record, or a memory, as a search finds it."""
    if not isinstance(hit, ActivityRow):
        return _remembered(hit)
    message = pb.SessionHit(
        kind="activity",
        id=str(hit.id),
        workspace_id=str(hit.workspace_id),
        label=hit.summary or hit.activity_type,
        content=text_of(json.loads(hit.response_body or hit.request_body or "null")),
        method=hit.method or "",
        status=hit.status,
        created_at=timestamp(hit.created_at),
    )
    await put_body(message, "request_body", hit.request_body, call, slices)
    await put_body(message, "response_body", hit.response_body, call, slices)
    return message


def _remembered(memory: SessionMemory) -> pb.SessionHit:
    return pb.SessionHit(
        kind="memory",
        id=str(memory.id),
        workspace_id=_text(memory.author_id) or "",
        label=memory.namespace,
        content=memory.content,
        method=memory.kind,
        status="ok",
        created_at=timestamp(memory.created_at),
    )


async def session_hits(page: Page[Hit], call: Call) -> MessagePage[Hit, pb.SessionHit]:
    """What a search found, as many hits as fit in 3 MiB on the wire.

    A row that alone exceeds what a stock gRPC client takes comes without its bodies.
    """
    slices = Slices()
    hits = (await session_hit(hit, call, slices) async for hit in slices.each(page.rows))
    fitting = await page_in_slices(hits, limit=len(page.rows), size=pb.SessionHit.ByteSize)
    shown = message_page(page, fitting)
    for name in ("request_body", "response_body"):
        if shown.messages and shown.messages[0].ByteSize() > MAX_ROW_BYTES:
            clear_body(shown.messages[0], name)
    return shown


_LARGE: tuple[_Body, ...] = ("tool_trace", "request_body", "response_body")


def _begins_polling(request: pb.ListActivityRequest, call: Call) -> bool:
    """Whether this is the first call of a poller that will go on after the last row of the answer.

    With the newest row first it would read the first page twice.
    """
    filters = (request.source, request.since_secs, request.peer_id, request.before_ts)
    return (
        call.principal.role is Role.WORKSPACE
        and request.type == "a2a_receive"
        and not any(filters)
        and not request.since_id
    )


def _cursor(since_id: str) -> UUID:
    try:
        return parse_id(since_id, "since_id")
    except Invalid:
        raise cursor_pruned() from None


async def _body(request: pb.ReportActivityRequest, name: _Body, call: Call) -> str | None:
    if not request.HasField(name):
        return None
    try:
        body = await read_value(getattr(request, name), Slices())
    except ValueError:  # NaN or an infinity
        raise Invalid(f"{name} holds a number out of range", field=name) from None
    return to_text(unmarked(body) if call.rest else body, name)


def _data(row: ActivityRow) -> activity_pb2.Activity.Data:
    """The row as an older SDK reads it. Never on an agent's own words: it would answer itself."""
    return activity_pb2.Activity.Data(
        source="peer_agent" if row.source_id else "canvas_user",
        text=row.text,
        source_id=_text(row.source_id) or "",
        peer_name=row.peer_name or "",
        peer_role=row.peer_role or "",
        agent_card_url=_card_url(row.peer_url),
    )


def _card_url(url: str | None) -> str:
    return f"{url.rstrip('/')}/.well-known/agent.json" if url else ""


def _text(workspace_id: UUID | None) -> str | None:
    return str(workspace_id) if workspace_id else None
