"""Inbox items of delegations as the ledger knows them: what a reader of the tables finds."""

from __future__ import annotations

from molecule_grpc.delegation.inbox.store.items import inline
from molecule_grpc.delegation.inbox.store.reads import InboxRow
from molecule_grpc.delegation.ledger.store.accept import DelegationDraft
from molecule_grpc.delegation.ledger.store.move import Move, Moved
from molecule_grpc.delegation.record.store.entries import Placed


def of_draft(draft: DelegationDraft, placed: Placed) -> InboxRow:
    """The item that hands a task over."""
    assert draft.item_id is not None
    return InboxRow(
        seq=placed.seq,
        message_id=placed.message_id,
        activity_id=draft.item_id,
        method="delegate",
        # As `SENDER` in SQL.
        source_id=draft.caller_id if draft.caller_id != draft.callee_id else None,
        source_name=placed.sender_name,
        delegation_id=draft.delegation_id,
        late=False,
        deliveries=0,
        created_at=placed.created_at,
        expires_at=None,
        status="ok",
        body=inline(draft.request_body, draft.bytes),
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
        body=inline(move.response_body, move.bytes),
    )
