"""Delegations to protos."""

from __future__ import annotations

import asyncpg
from moleculeai.delegation.v1 import delegation_pb2

from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.kernel.text import cut_chars

PREVIEW_CHARS = 300
SUMMARY_CHARS = 80


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
