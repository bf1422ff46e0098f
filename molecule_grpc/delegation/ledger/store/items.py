"""Inbox items as their writer knows them, the same as a reader of the tables would find them."""

from __future__ import annotations

from molecule_grpc.delegation.inbox.store.inbox import MAX_INLINE_BYTES, InboxRow
from molecule_grpc.delegation.ledger.store.ledger import DelegationDraft, Move, Moved
from molecule_grpc.delegation.record.store.entries import Entry, Placed


def of_entry(entry: Entry, placed: Placed) -> InboxRow:
    """The item of a message."""
    return InboxRow(
        seq=placed.seq,
        message_id=placed.message_id,
        activity_id=entry.activity_id,
        method=entry.method or "",
        source_id=entry.sender_id,
        source_name=placed.sender_name,
        delegation_id=entry.delegation_id,
        late=entry.late,
        deliveries=0,
        created_at=placed.created_at,
        expires_at=None,
        status=entry.status,
        body=_inline(entry.response_body or entry.request_body, entry.bytes),
    )


def of_draft(draft: DelegationDraft, placed: Placed) -> InboxRow:
    """The item that hands a task over."""
    assert draft.item_id is not None
    return InboxRow(
        seq=placed.seq,
        message_id=placed.message_id,
        activity_id=draft.item_id,
        method="delegate",
        source_id=draft.caller_id,
        source_name=placed.sender_name,
        delegation_id=draft.delegation_id,
        late=False,
        deliveries=0,
        created_at=placed.created_at,
        expires_at=None,
        status="ok",
        body=_inline(draft.request_body, draft.bytes),
    )


def of_move(move: Move, moved: Moved) -> InboxRow:
    """The item that brings a result."""
    placed = moved.placed
    assert placed is not None
    return InboxRow(
        seq=placed.seq,
        message_id=placed.message_id,
        activity_id=move.item_id,
        method="delegate_result",
        source_id=moved.callee_id,
        source_name=placed.sender_name,
        delegation_id=move.delegation_id,
        late=moved.late,
        deliveries=0,
        created_at=placed.created_at,
        expires_at=None,
        status="ok" if move.to == "completed" else "error",
        body=_inline(move.response_body, move.bytes),
    )


def _inline(body: str | None, size: int) -> str | None:
    return body if size <= MAX_INLINE_BYTES else None
