"""What an agent finds in its inbox."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from moleculeai.delegation.v1 import inbox_pb2


class Holder(Protocol):
    """Whoever handed an item out, and hears what became of it."""

    async def ack(self, item: Item) -> None:
        """The item is done."""

    async def nack(self, item: Item, *, retry_after: float, reason: str) -> None:
        """The item shall come again."""


@dataclass(slots=True, eq=False)
class Item:
    """One thing to act on. Delivery is at least once: `delivery` above 1 marks a repeat.

    Args:
        seq: its number in this inbox.
        message_id: the same for every repeat and retry.
        method: `delegate`, `delegate_result`, `message/send` and so on.
        kind: `canvas_user` for the human, `peer_agent` for another workspace.
        source_id: the workspace that sent it; empty for the human.
        delegation_id: the delegation that it hands over or ends; empty otherwise.
        status: `error` for the result of a failed delegation, else `ok`.
        body: the whole message as JSON text.
        late: whether this result came after the delegation had ended without one.
        frame: the item as it came over the wire.
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
        """Whether it hands over a delegation that wants a result."""
        return self.method == "delegate" and bool(self.delegation_id)

    @property
    def is_result(self) -> bool:
        """Whether it ends a delegation of this agent."""
        return self.method == "delegate_result"

    @property
    def from_human(self) -> bool:
        """Whether the human wrote it."""
        return self.kind == "canvas_user"

    def json(self) -> Any:
        """The whole message; None when there is none."""
        return json.loads(self.body) if self.body else None

    async def ack(self) -> None:
        """Say that it is done. Repeating it is harmless."""
        await self.holder.ack(self)

    async def nack(self, *, retry_after: float = 0.0, reason: str = "") -> None:
        """Give it back, to come again after `retry_after` seconds. Five times make it poison."""
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
