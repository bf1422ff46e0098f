"""The tools for messages: what comes for an agent, what came before, and speaking to the human."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterator

from molecule_grpc.auth.principal import Role
from molecule_grpc.delegation.inbox.store.reads import InboxRow
from molecule_grpc.delegation.record.activity import ActivityQuery, Attachment
from molecule_grpc.delegation.record.rules import timestamp
from molecule_grpc.delegation.record.store.queries import ActivityFilter
from molecule_grpc.directory import Heartbeat
from molecule_grpc.faces.mcp import arguments, items
from molecule_grpc.faces.mcp.items import Json, Senders
from molecule_grpc.faces.mcp.tools import Caller, Tool
from molecule_grpc.faces.port import Platform
from molecule_grpc.server.call import Call

# A list ends with the message that makes it reach 1 MiB.
LIST_BYTES = 1_048_576

_PULL_SECONDS = 55


class Messages:
    """Runs the tools through the use cases that the RPCs call.

    Args:
        admit: raises unless the token of a call is still good.
    """

    def __init__(self, platform: Platform, admit: Callable[[Call], Awaitable[object]]) -> None:
        self._platform = platform
        self._admit = admit
        self._senders = Senders(platform.directory.lookup)

    def tools(self, *, speaks: bool) -> Iterator[Tool]:
        """Every tool.

        Args:
            speaks: whether agents may speak to the human.
        """
        yield Tool(
            "wait_for_message",
            "Wait for the oldest message in your inbox. It stays there until you inbox_pop it. An "
            "empty object means that none came in time.",
            arguments.Wait,
            self._wait,
            reads=True,
        )
        yield Tool(
            "inbox_peek",
            "Look at the messages in your inbox, oldest first, without removing them.",
            arguments.Peek,
            self._peek,
            reads=True,
        )
        yield Tool(
            "inbox_pop",
            "Remove a message from your inbox, once what it asks for is done.",
            arguments.Pop,
            self._pop,
        )
        yield Tool(
            "chat_history",
            "Messages that came from a peer and outcomes of tasks that it got from you, oldest "
            "first, the newest ones unless before_ts is given.",
            arguments.History,
            self._history,
            reads=True,
        )
        if speaks:
            yield Tool(
                "send_message_to_user",
                "Say something to the human, asked or unasked.",
                arguments.Notify,
                self._notify,
                stores=True,
            )

    async def _wait(self, given: arguments.Wait, caller: Caller) -> object:
        left = given.timeout_secs
        while True:
            slice_seconds = min(left, _PULL_SECONDS)
            left -= slice_seconds
            asked = time.monotonic()
            await self._show_alive(caller)
            found = await self._pull(caller, limit=1, wait_seconds=slice_seconds)
            # The token may have been revoked meanwhile.
            await self._admit(caller.call)
            if found:
                return await self._shown(found[0], caller)
            # A pull ends early when, for instance, the server drains: asking again is no use.
            if left == 0 or time.monotonic() - asked < slice_seconds - 1:
                return {}

    async def _show_alive(self, caller: Caller) -> None:
        """An agent that waits is there: an agent that does nothing else needs no heartbeat."""
        if caller.call.principal.role is Role.WORKSPACE:
            await self._platform.heartbeat(Heartbeat(caller.workspace_id))

    async def _peek(self, given: arguments.Peek, caller: Caller) -> object:
        shown = _Messages()
        for row in await self._pull(caller, limit=given.limit, wait_seconds=0):
            shown.add(await self._shown(row, caller))
            if shown.full:
                break
        return shown.messages

    async def _pull(self, caller: Caller, *, limit: int, wait_seconds: int) -> list[InboxRow]:
        pulled = await self._platform.inbox.pull(
            caller.workspace_id,
            limit=limit,
            wait_seconds=caller.call.wait_limit(wait_seconds),
            authorization=caller.call.authorization,
        )
        return pulled.items

    async def _shown(self, row: InboxRow, caller: Caller) -> Json:
        body = row.body
        if body is None:  # too large to travel with its item
            whole = await self._platform.activity.get(caller.workspace_id, row.activity_id)
            body = (whole.response_body if row.method == "delegate_result" else None) or (
                whole.request_body
            )
        content = items.content_of(body)
        sender = await self._senders.find(row.source_id, viewer=caller.workspace_id)
        return items.of_inbox(row, content, sender)

    async def _pop(self, given: arguments.Pop, caller: Caller) -> object:
        done = await self._platform.inbox.ack(caller.workspace_id, activity_ids=[given.activity_id])
        return {"removed": done.marked > 0}

    async def _history(self, given: arguments.History, caller: Caller) -> object:
        chosen = ActivityFilter(
            type="a2a_receive",
            peer_id=given.peer_id,
            before=timestamp(given.before_ts, "before_ts"),
        )
        query = ActivityQuery(caller.workspace_id, chosen, limit=given.limit)
        shown = _Messages()
        # The newest rows come first, so the rows that do not fit are the oldest.
        for row in (await self._platform.activity.list(query)).rows:
            peer = await self._senders.find(items.peer_of(row), viewer=caller.workspace_id)
            shown.add(items.of_record(row, peer))
            if shown.full:
                break
        return shown.messages[::-1]

    async def _notify(self, given: arguments.Notify, caller: Caller) -> object:
        attachments = [
            Attachment(file.uri, file.name, file.mime_type, file.size) for file in given.attachments
        ]
        await self._platform.activity.notify(caller.workspace_id, given.message, attachments)
        return {"status": "sent"}


class _Messages:
    """Messages of one answer, which end up in a model's context."""

    def __init__(self) -> None:
        self.messages: list[Json] = []
        self._bytes = 0

    def add(self, message: Json) -> None:
        self.messages.append(message)
        self._bytes += len(json.dumps(message, ensure_ascii=False).encode())

    @property
    def full(self) -> bool:
        """Whether the messages have reached 1 MiB."""
        return self._bytes >= LIST_BYTES
