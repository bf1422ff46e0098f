"""Messages as the tools show them."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

from molecule_grpc.delegation.inbox.store.reads import InboxRow
from molecule_grpc.delegation.record.a2a import other_parts, text_of
from molecule_grpc.delegation.record.store.queries import ActivityRow
from molecule_grpc.directory import WorkspaceInfo
from molecule_grpc.kernel.protos import timestamp

Json = dict[str, object]

_PART_BYTES = 256 * 1024
_REMEMBERED_SECONDS = 300.0
_REMEMBERED = 10_000


class Senders:
    """Who messages come from. A workspace is remembered for five minutes, at most 10,000 are."""

    def __init__(self, lookup: Callable[[UUID], Awaitable[WorkspaceInfo | None]]) -> None:
        self._lookup = lookup
        self._known: OrderedDict[UUID, tuple[float, WorkspaceInfo | None]] = OrderedDict()

    async def find(self, workspace_id: UUID | None, *, viewer: UUID) -> WorkspaceInfo | None:
        """A sender of the viewer's organisation; None for the human, and for a removed workspace.

        The id of a sender that was purged may be another organisation's by now.
        """
        if workspace_id is None:
            return None
        sender, shown_to = await self._info(workspace_id), await self._info(viewer)
        if sender is None or shown_to is None:
            return None
        return sender if sender.organization_id == shown_to.organization_id else None

    async def _info(self, workspace_id: UUID) -> WorkspaceInfo | None:
        until, found = self._known.get(workspace_id, (0.0, None))
        if until <= time.monotonic():
            found = await self._lookup(workspace_id)
            self._known[workspace_id] = (time.monotonic() + _REMEMBERED_SECONDS, found)
            self._known.move_to_end(workspace_id)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found


def content_of(body: str | None) -> Json:
    """A body as text, with files and data beside.

    `parts` are the message's files and data. A body without message parts and text comes whole, as
    `body`. Of what exceeds 256 KiB only the size is told.
    """
    parsed = json.loads(body or "null")
    text, others = text_of(parsed), other_parts(parsed)
    content: Json = {"text": text}
    if others:
        content["parts"] = [_bounded(part) for part in others]
    elif not text and isinstance(parsed, dict) and "params" not in parsed:
        content["body"] = _bounded(parsed)
    return content


def _bounded(part: object) -> object:
    size = len(json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode())
    return part if size <= _PART_BYTES else {"omitted_bytes": size}


def of_inbox(row: InboxRow, content: Json, sender: WorkspaceInfo | None) -> Json:
    """An item of the inbox. An item about a task names the task, and how the task ended."""
    message = _message(row.activity_id, content, row.source_id, row.method, row.created_at, sender)
    message["peer_name"] = message["peer_name"] or row.source_name or ""
    if row.delegation_id:
        message["task_id"] = row.delegation_id
    if row.method == "delegate_result":
        message |= {"status": row.status, "late": row.late}
    return message


def of_record(row: ActivityRow, peer: WorkspaceInfo | None) -> Json:
    """A row of the record."""
    content = content_of(row.request_body)
    content["text"] = row.text or row.summary or ""
    content.pop("body", None)  # of an outcome: it names the task and repeats the text
    return _message(row.id, content, peer_of(row), row.method or "", row.created_at, peer)


def peer_of(row: ActivityRow) -> UUID | None:
    """Whom a row is from; the outcome of a task is the workspace's own row, about a peer."""
    return row.target_id if row.source_id == row.workspace_id else row.source_id


def _message(
    activity_id: UUID,
    content: Json,
    peer_id: UUID | None,
    method: str,
    created_at: datetime,
    peer: WorkspaceInfo | None,
) -> Json:
    stamp = timestamp(created_at)
    assert stamp is not None
    return {
        "activity_id": str(activity_id),
        **content,
        "peer_id": str(peer_id or ""),
        "kind": "peer_agent" if peer_id else "canvas_user",
        "method": method,
        "created_at": stamp.ToJsonString(),
        "peer_name": peer.name if peer else "",
        "peer_role": peer.role if peer else "",
        "agent_card_url": _card_url(peer.url) if peer else "",
    }


def _card_url(url: str) -> str:
    return f"{url.rstrip('/')}/.well-known/agent.json" if url else ""
