"""Inbox items as their writer knows them, as a reader of the tables would find them."""

from __future__ import annotations

from molecule_grpc.delegation.inbox.store.reads import MAX_INLINE_BYTES, InboxRow
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
        body=inline(entry.response_body or entry.request_body, entry.bytes),
    )


def inline(body: str | None, size: int) -> str | None:
    """The body that travels with an item; None above 256 KiB, which clients fetch by the row."""
    return body if size <= MAX_INLINE_BYTES else None
