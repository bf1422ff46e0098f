"""The items of an inbox."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from moleculeai.delegation.v1 import inbox_pb2


class Holder(Protocol):
    """The inbox that handed an item out, and takes its ack or nack."""

    async def ack(self, item: Item) -> None:
        """Mark the item as done."""

    async def nack(self, item: Item, *, retry_after: float, reason: str) -> None:
        """Give the item back, to come again after `retry_after` seconds."""


@dataclass(slots=True, eq=False)
class Item:
    """A message or task to act on. Delivery is at least once: `delivery` above 1 marks a repeat.

    Args:
        seq: number of the item in this inbox, from 1.
        delivery: how often the item was delivered, this time included.
        message_id: the same for every repeat and retry.
        activity_id: UUID of the item's row in the activity record.
        method: `delegate`, `delegate_result`, `message/send` and so on.
        kind: `canvas_user` for the human, `peer_agent` for another workspace.
        source_id: UUID of the workspace that sent the item; empty for the human.
        source_name: name of that workspace.
        text: the text parts of the message, or the result of a delegation.
        delegation_id: the delegation that the item hands over or ends; empty otherwise.
        status: `error` for the result of a failed delegation, else `ok`.
        body: the whole message as JSON text.
        late: whether this result came after the delegation had ended without a result.
        created_at: when the platform accepted the item, in UTC.
        frame: the item as a protobuf message.
        holder: the inbox that takes the ack.
        epoch: the inbox session that delivered the item.
    """

    seq: int
    delivery: int
    message_id: str
    activity_id: str
    method: str
    kind: str
    source_id: str
    source_name: str
    text: str
    delegation_id: str
    status: str
    body: str
    late: bool
    created_at: datetime
    frame: inbox_pb2.InboxItem = field(repr=False)
    holder: Holder = field(repr=False)
    epoch: int = field(default=0, repr=False)

    @classmethod
    def read(cls, frame: inbox_pb2.InboxItem, holder: Holder, epoch: int) -> Item:
        """The item of a frame, delivered in session `epoch`."""
        return cls(
            seq=frame.seq,
            delivery=frame.delivery,
            message_id=frame.message_id,
            activity_id=frame.activity_id,
            method=frame.method,
            kind=inbox_pb2.InboxItem.Kind.Name(frame.kind),
            source_id=frame.source_id,
            source_name=frame.source_name,
            text=frame.text,
            delegation_id=frame.delegation_id,
            status=frame.status,
            body=frame.body,
            late=frame.late,
            created_at=frame.created_at.ToDatetime(tzinfo=UTC),
            frame=frame,
            holder=holder,
            epoch=epoch,
        )

    @property
    def is_task(self) -> bool:
        """Whether the item hands over a delegation, which wants a result."""
        return self.method == "delegate" and bool(self.delegation_id)

    @property
    def is_result(self) -> bool:
        """Whether the item is the result of a delegation that this agent handed over."""
        return self.method == "delegate_result"

    @property
    def from_human(self) -> bool:
        """Whether the human wrote the item."""
        return self.kind == "canvas_user"

    def json(self) -> Any:
        """The parsed body; None for an item without a body."""
        return json.loads(self.body) if self.body else None

    async def ack(self) -> None:
        """Mark the item as done: it never comes again. A second ack does nothing."""
        await self.holder.ack(self)

    async def nack(self, *, retry_after: float = 0.0, reason: str = "") -> None:
        """Give the item back, to come again. The fifth failed delivery makes the item poison.

        Args:
            retry_after: seconds until the next delivery.
            reason: kept with the item, at most 1000 bytes of it.
        """
        await self.holder.nack(self, retry_after=retry_after, reason=reason)


def text_of(body: Any) -> str:
    """The text of an A2A message or of a delegation's result."""
    if not isinstance(body, dict):
        return ""
    params = body.get("params")
    message = params.get("message") if isinstance(params, dict) else None
    for place in (message, params, body):
        parts = place.get("parts") if isinstance(place, dict) else None
        if isinstance(parts, list):
            return "\n".join(_texts(parts))
    text = body.get("text")
    return text if isinstance(text, str) else ""


def _texts(parts: list[Any]) -> list[str]:
    return [
        part["text"]
        for part in parts
        if isinstance(part, dict)
        and "text" in (part.get("kind"), part.get("type"))
        and isinstance(part.get("text"), str)
    ]
