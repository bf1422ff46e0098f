"""An event as a message."""

from __future__ import annotations

from moleculeai.delegation.v1 import event_pb2

from molecule_grpc.events.values import StoredEvent
from molecule_grpc.kernel.json_values import value
from molecule_grpc.kernel.page import MessagePage, Page, messages_of
from molecule_grpc.kernel.protos import timestamp


def event_message(stored: StoredEvent, resume_token: str = "") -> event_pb2.Event:
    """An event of the feed, or, without a token, of a list."""
    message = event_pb2.Event(
        id=str(stored.id),
        event_type=stored.type,
        payload=value(stored.payload),
        created_at=timestamp(stored.created_at),
        kept=stored.kept,
        resume_token=resume_token,
    )
    if stored.workspace_id is not None:
        message.workspace_id = str(stored.workspace_id)
    return message


async def event_messages(page: Page[StoredEvent]) -> MessagePage[StoredEvent, event_pb2.Event]:
    """Events of a list, as many as fit in 3 MiB."""
    return await messages_of(page, event_message, event_pb2.Event.ByteSize)
