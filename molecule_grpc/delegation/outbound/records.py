"""The row of the record for a message that an agent got at its URL."""

from __future__ import annotations

import json
from uuid import UUID

from molecule_grpc.delegation.outbound.outcome import Delivered, Kind
from molecule_grpc.delegation.record.a2a import said
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.text import clean, cut_bytes, cut_chars

_SUMMARY_CHARS = 80


def delivered(
    target_id: UUID, source_id: UUID | None, method: str, body: str, outcome: Delivered
) -> Entry:
    """A row without an inbox item: the agent got the message at its URL.

    Args:
        body: the message as JSON text that Postgres takes.
    """
    failed = not outcome.ok or outcome.reply.kind is Kind.ERROR
    detail = outcome.reply.text or f"the workspace agent answered {outcome.status}"
    return Entry(
        workspace_id=target_id,
        activity_id=new_id(),
        activity_type="a2a_receive",
        method=method,
        source_id=source_id,
        target_id=target_id,
        summary=cut_chars(clean(said(json.loads(body))), _SUMMARY_CHARS),
        request_body=body,
        response_body=outcome.reply.stored,
        duration_ms=outcome.duration_ms,
        status="error" if failed else "ok",
        error_detail=cut_bytes(detail) if failed else None,
    )
