"""Rows to protos."""

from __future__ import annotations

import json

import asyncpg
from moleculeai.delegation.v1 import activity_pb2, delegation_pb2, inbox_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.delegation.inbox.store.inbox import InboxRow
from molecule_grpc.delegation.record.a2a import text_of
from molecule_grpc.kernel.protos import timestamp, value
from molecule_grpc.kernel.text import cut_chars

PREVIEW_CHARS = 300
SUMMARY_CHARS = 80
_NO_REPLY = ("notify", "chat_upload_receive")


def delegation(row: asyncpg.Record, viewer: object, *, whole: bool) -> delegation_pb2.Delegation:
    """A delegation as one of its parties sees it; `whole` includes the result."""
    result: str | None = row["result"] if whole else None
    preview: str | None = row["result_preview"]
    message = delegation_pb2.Delegation(
        id=row["delegation_id"],
        type="delegation",
        delegation_id=row["delegation_id"],
        source_id=str(row["caller_id"]),
        target_id=str(row["callee_id"]),
        summary=_summary(row),
        status=row["status"],
        direction="sent" if row["caller_id"] == viewer else "received",
        task_preview=row["task_preview"],
        truncated=row["truncated"],
        retry_count=row["retry_count"],
        max_attempts=row["max_attempts"],
        last_heartbeat=timestamp(row["last_heartbeat"]),
        deadline=timestamp(row["deadline"]),
        created_at=timestamp(row["created_at"]),
        updated_at=timestamp(row["updated_at"]),
    )
    if row["failure_reason"]:
        message.failure_reason = delegation_pb2.FailureReason.Value(row["failure_reason"])
    if row["error_detail"] is not None:
        message.error = row["error_detail"]
    if preview is not None:
        message.response_preview = cut_chars(preview, PREVIEW_CHARS)
    if result is not None:
        message.result = result
    for name in ("progress_note", "progress_percent", "retry_of"):
        if row[name] is not None:
            setattr(message, name, row[name])
    return message


def _summary(row: asyncpg.Record) -> str:
    if row["status"] == "completed" and row["result_preview"] is not None:
        return "Delegation completed: " + cut_chars(row["result_preview"], SUMMARY_CHARS)
    if row["status"] in ("failed", "stuck"):
        return f"Delegation {row['status']}: " + cut_chars(
            row["error_detail"] or "no detail", SUMMARY_CHARS
        )
    return cut_chars(row["task_preview"], 200)


def activity(row: asyncpg.Record) -> activity_pb2.Activity:
    """A row of the record."""
    message = activity_pb2.Activity(
        id=str(row["id"]),
        workspace_id=str(row["workspace_id"]),
        activity_type=row["activity_type"],
        request_body=value(row["request_body"]),
        response_body=value(row["response_body"]),
        tool_trace=value(row["tool_trace"]),
        status=row["status"],
        created_at=timestamp(row["created_at"]),
    )
    for name in ("source_id", "target_id", "method", "summary", "duration_ms", "error_detail"):
        if row[name] is not None:
            setattr(message, name, str(row[name]) if name.endswith("_id") else row[name])
    if row["inbox_seq"] is not None:
        message.seq = row["inbox_seq"]
    if row["activity_type"] == "a2a_receive" and row["method"] not in _NO_REPLY:
        message.data.CopyFrom(_data(row))
    return message


def _data(row: asyncpg.Record) -> activity_pb2.Activity.Data:
    """The row as an older SDK reads it. Never on an agent's own words: it would answer itself."""
    asked, answered = (
        json.loads(row[name] or "null") for name in ("request_body", "response_body")
    )
    return activity_pb2.Activity.Data(
        source="peer_agent" if row["source_id"] else "canvas_user",
        # A result is in the answer; of a message that was answered at once, the message counts.
        text=text_of(asked) or text_of(answered),
        source_id=str(row["source_id"] or ""),
        peer_name=row["peer_name"] or "",
        peer_role=row["peer_role"] or "",
        agent_card_url=_card_url(row["peer_url"]),
    )


def _card_url(url: str | None) -> str:
    return f"{url.rstrip('/')}/.well-known/agent.json" if url else ""


def item(row: InboxRow, prev_seq: int) -> inbox_pb2.InboxItem:
    """An inbox item. Its text is looked for in the body, as A2A clients do."""
    body = row.body
    return inbox_pb2.InboxItem(
        seq=row.seq,
        prev_seq=prev_seq,
        delivery=row.deliveries + 1,
        message_id=row.message_id,
        activity_id=str(row.activity_id),
        method=row.method,
        kind=inbox_pb2.InboxItem.peer_agent if row.source_id else inbox_pb2.InboxItem.canvas_user,
        source_id=str(row.source_id or ""),
        source_name=row.source_name or "",
        text=text_of(json.loads(body)) if body else "",
        delegation_id=row.delegation_id or "",
        status=row.status,
        body=body or "",
        body_ref="" if body else str(row.activity_id),
        created_at=timestamp(row.created_at),
        expires_at=timestamp(row.expires_at),
        late=row.late,
    )


def session_hit(row: asyncpg.Record) -> pb.SessionHit:
    """A row of the record as a search finds it."""
    hit = pb.SessionHit(
        kind="activity",
        id=str(row["id"]),
        workspace_id=str(row["workspace_id"]),
        label=row["summary"] or row["activity_type"],
        content=text_of(json.loads(row["response_body"] or row["request_body"] or "null")),
        method=row["method"] or "",
        status=row["status"],
        created_at=timestamp(row["created_at"]),
    )
    for name in ("request_body", "response_body"):
        if row[name] is not None:
            getattr(hit, name).CopyFrom(value(row[name]))
    return hit
