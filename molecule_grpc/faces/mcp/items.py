"""Messages as the tools show them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from moleculeai.delegation.v1 import activity_pb2, inbox_pb2

from molecule_grpc.directory import WorkspaceInfo

Json = dict[str, object]

_REMEMBERED_SECONDS = 300.0
_REMEMBERED = 10_000


class Peers:
    """Who a message came from, remembered for five minutes."""

    def __init__(self, lookup: Callable[[UUID], Awaitable[WorkspaceInfo | None]]) -> None:
        self._lookup = lookup
        self._known: OrderedDict[str, tuple[float, WorkspaceInfo | None]] = OrderedDict()

    async def find(self, peer_id: str) -> WorkspaceInfo | None:
        """A peer; None for the human, and for one that is removed."""
        if not peer_id:
            return None
        until, facts = self._known.get(peer_id, (0.0, None))
        if until <= time.monotonic():
            facts = await self._lookup(UUID(peer_id))
            self._known[peer_id] = (time.monotonic() + _REMEMBERED_SECONDS, facts)
            self._known.move_to_end(peer_id)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return facts


def of_inbox(item: inbox_pb2.InboxItem, text: str, peer: WorkspaceInfo | None) -> Json:
    """An item of the inbox. Where it is about a task it says so, and how the task ended."""
    message = _message(item.activity_id, text, item.source_id, item.method, item.created_at, peer)
    message["peer_name"] = message["peer_name"] or item.source_name
    if item.delegation_id:
        message["task_id"] = item.delegation_id
    if item.method == "delegate_result":
        message |= {"status": item.status, "late": item.late}
    return message


def of_record(row: activity_pb2.Activity, peer: WorkspaceInfo | None) -> Json:
    """A row of the record."""
    text = row.data.text or row.summary
    return _message(row.id, text, peer_of(row), row.method, row.created_at, peer)


def peer_of(row: activity_pb2.Activity) -> str:
    """Who a row is from; or about, as the outcome of a task is on record as the workspace's own."""
    return row.target_id if row.source_id == row.workspace_id else row.source_id


def _message(
    activity_id: str,
    text: str,
    peer_id: str,
    method: str,
    created_at: Timestamp,
    peer: WorkspaceInfo | None,
) -> Json:
    return {
        "activity_id": activity_id,
        "text": text,
        "peer_id": peer_id,
        "kind": "peer_agent" if peer_id else "canvas_user",
        "method": method,
        "created_at": created_at.ToJsonString(),
        "peer_name": peer.name if peer else "",
        "peer_role": peer.role if peer else "",
        "agent_card_url": _card_url(peer.url) if peer else "",
    }


def _card_url(url: str) -> str:
    return f"{url.rstrip('/')}/.well-known/agent.json" if url else ""
