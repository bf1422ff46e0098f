"""The tools for messages: what comes for an agent, what came before, and speaking to the human."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator

from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import inbox_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb

from molecule_grpc.auth.principal import Role
from molecule_grpc.faces.mcp import arguments, items
from molecule_grpc.faces.mcp.items import Json, Peers
from molecule_grpc.faces.mcp.ports import Platform
from molecule_grpc.faces.mcp.tools import Caller, Tool
from molecule_grpc.server.call import Call

# Texts go into a model's context: a list ends with the message that makes it longer than this.
LIST_BYTES = 1_048_576

_PULL_SECONDS = 55


class Messages:
    """Runs them through the use cases of the RPCs.

    Args:
        admit: raises unless the token of a call is still good.
    """

    def __init__(self, platform: Platform, admit: Callable[[Call], Awaitable[object]]) -> None:
        self._platform = platform
        self._admit = admit
        self._peers = Peers(platform.lookup)

    def tools(self, *, speaks: bool) -> Iterator[Tool]:
        """All of them; with the one that speaks to the human only if it may."""
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
            # A pull that gives up early has its reasons, such as a server that stops.
            if left == 0 or time.monotonic() - asked < slice_seconds - 1:
                return {}

    async def _show_alive(self, caller: Caller) -> None:
        """Whoever waits is there; so an agent that does nothing else needs no heartbeat."""
        if caller.call.principal.role is Role.WORKSPACE:
            beat = workspace_pb.HeartbeatRequest(workspace_id=caller.workspace_id)
            await self._platform.heartbeat(self._platform.checked(beat))

    async def _peek(self, given: arguments.Peek, caller: Caller) -> object:
        shown: list[Json] = []
        size = 0
        for item in await self._pull(caller, limit=given.limit, wait_seconds=0):
            shown.append(await self._shown(item, caller))
            size += _size(shown[-1])
            if size >= LIST_BYTES:
                break
        return shown

    async def _pull(
        self, caller: Caller, *, limit: int, wait_seconds: int
    ) -> list[inbox_pb2.InboxItem]:
        request = self._platform.checked(
            pb.PullInboxRequest(
                workspace_id=caller.workspace_id, limit=limit, wait_seconds=wait_seconds
            )
        )
        return list((await self._platform.pull(request, caller.call)).items)

    async def _shown(self, item: inbox_pb2.InboxItem, caller: Caller) -> Json:
        text = item.text
        if item.body_ref:  # too large for the item
            request = self._platform.checked(
                pb.GetActivityRequest(workspace_id=caller.workspace_id, activity_id=item.body_ref)
            )
            text = (await self._platform.get_activity(request)).data.text
        return items.of_inbox(item, text, await self._peers.find(item.source_id))

    async def _pop(self, given: arguments.Pop, caller: Caller) -> object:
        request = self._platform.checked(
            pb.AckInboxRequest(
                workspace_id=caller.workspace_id, activity_ids=[str(given.activity_id)]
            )
        )
        return {"removed": (await self._platform.ack(request)).removed > 0}

    async def _history(self, given: arguments.History, caller: Caller) -> object:
        request = self._platform.checked(
            pb.ListActivityRequest(
                workspace_id=caller.workspace_id,
                type="a2a_receive",
                peer_id=str(given.peer_id),
                limit=str(given.limit),
                before_ts=given.before_ts,
            )
        )
        found = await self._platform.list_activity(request)
        shown: list[Json] = []
        size = 0
        for row in found.activities:  # the newest first, so that what is cut off is the oldest
            peer = await self._peers.find(items.peer_of(row))
            shown.append(items.of_record(row, peer))
            size += _size(shown[-1])
            if size >= LIST_BYTES:
                break
        return shown[::-1]

    async def _notify(self, given: arguments.Notify, caller: Caller) -> object:
        request = self._platform.checked(
            pb.NotifyRequest(
                workspace_id=caller.workspace_id,
                message=given.message,
                attachments=[
                    pb.Attachment(
                        uri=file.uri, name=file.name, mime_type=file.mime_type, size=file.size
                    )
                    for file in given.attachments
                ],
            )
        )
        return {"status": (await self._platform.notify(request)).status}


def _size(shown: Json) -> int:
    return len(str(shown["text"]).encode())
