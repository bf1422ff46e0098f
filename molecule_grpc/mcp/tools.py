"""The tools: what each is called, takes, does and returns."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from google.protobuf.message import Message
from moleculeai.delegation.v1 import delegation_pb2, inbox_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb

from molecule_grpc.auth.principal import Role
from molecule_grpc.mcp import arguments, items
from molecule_grpc.mcp.items import Json, Peers
from molecule_grpc.mcp.ports import Platform
from molecule_grpc.server.call import Call

# How long delegate_task holds the line.
WAIT_SECONDS = 30
# Texts go into a model's context: a list ends with the message that makes it longer than this.
LIST_BYTES = 1_048_576

_PULL_SECONDS = 55
_STATUS = delegation_pb2.Delegation.Status
_REASON = delegation_pb2.FailureReason
_ENDED = ("completed", "failed", "stuck")
_OPTIONAL: tuple[Literal["result", "error", "progress_note", "progress_percent"], ...] = (
    "result",
    "error",
    "progress_note",
    "progress_percent",
)

Request = TypeVar("Request", bound=Message)


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a tool runs."""

    workspace_id: str
    call: Call


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Args:
        reads: it changes nothing.
        run: takes checked arguments; returns what JSON can say.
    """

    name: str
    description: str
    arguments: type[arguments.Arguments]
    run: Callable[[Any, Caller], Awaitable[object]]
    reads: bool = False


class Toolbox:
    """Runs the tools through the use cases of the RPCs.

    Args:
        admit: raises unless the token of a call is still good.
    """

    def __init__(self, platform: Platform, admit: Callable[[Call], Awaitable[object]]) -> None:
        self._platform = platform
        self._admit = admit
        self._peers = Peers(platform.lookup)

    def tools(self, *, speaks: bool) -> Iterator[Tool]:
        """All tools; with the one that speaks to the human only if it may."""
        yield Tool(
            "list_peers",
            "List the workspaces that you may work with: id, name, role, status and how many tasks "
            "each is busy with.",
            arguments.ListPeers,
            self._list_peers,
            reads=True,
        )
        yield Tool(
            "delegate_task",
            f"Hand a task to a peer and wait up to {WAIT_SECONDS} s for its result. If it takes "
            "longer you get its task_id: use check_task_status. The result also comes to your "
            "inbox. To answer a peer's message, delegate to that peer.",
            arguments.Delegate,
            self._delegate,
        )
        yield Tool(
            "delegate_task_async",
            "Hand a task to a peer and go on at once. Returns its task_id for check_task_status; "
            "the result comes to your inbox.",
            arguments.Delegate,
            self._delegate_async,
        )
        yield Tool(
            "check_task_status",
            "Where a task stands that you handed over or were given, with its result when it has "
            "ended. completed, failed and stuck are final.",
            arguments.CheckTask,
            self._check_task,
            reads=True,
        )
        yield Tool(
            "update_task_status",
            "Report on a task that a peer gave you: a message with method delegate carries its "
            "task_id. The first final report counts and goes to the peer's inbox.",
            arguments.UpdateTask,
            self._update_task,
        )
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

    async def _list_peers(self, given: arguments.ListPeers, caller: Caller) -> object:
        request = self._checked(
            workspace_pb.ListPeersRequest(workspace_id=caller.workspace_id, q=given.q)
        )
        found = await self._platform.list_peers(request, caller.call)
        return [_peer(peer) for peer in found.peers[: given.limit]]

    async def _delegate(self, given: arguments.Delegate, caller: Caller) -> object:
        response = await self._hand_over(given, caller, wait_seconds=WAIT_SECONDS)
        task = _task(response.delegation)
        if task["status"] not in _ENDED:
            task["next"] = "not ended yet: use check_task_status with this task_id"
        return task

    async def _delegate_async(self, given: arguments.Delegate, caller: Caller) -> object:
        response = await self._hand_over(given, caller, wait_seconds=0)
        return {"task_id": response.delegation_id, "status": response.status}

    async def _hand_over(
        self, given: arguments.Delegate, caller: Caller, *, wait_seconds: int
    ) -> pb.DelegateResponse:
        request = self._checked(
            pb.DelegateRequest(
                workspace_id=caller.workspace_id,
                target_id=str(given.workspace_id),
                task=given.task,
                idempotency_key=given.idempotency_key,
                wait_seconds=wait_seconds,
            )
        )
        return await self._platform.delegate(request, caller.call)

    async def _check_task(self, given: arguments.CheckTask, caller: Caller) -> object:
        request = self._checked(
            pb.GetDelegationRequest(workspace_id=caller.workspace_id, delegation_id=given.task_id)
        )
        return _task(await self._platform.get(request))

    async def _update_task(self, given: arguments.UpdateTask, caller: Caller) -> object:
        request = self._checked(
            pb.UpdateDelegationRequest(
                workspace_id=caller.workspace_id,
                delegation_id=given.task_id,
                status=_STATUS.Value(given.status),
                response_preview=given.text if given.status == "completed" else "",
                error=given.text if given.status == "failed" else "",
            )
        )
        done = await self._platform.update(request)
        return {
            "task_id": done.delegation_id,
            "status": _STATUS.Name(done.status),
            "applied": done.applied,
        }

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
            await self._platform.heartbeat(self._checked(beat))

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
        request = self._checked(
            pb.PullInboxRequest(
                workspace_id=caller.workspace_id, limit=limit, wait_seconds=wait_seconds
            )
        )
        return list((await self._platform.pull(request, caller.call)).items)

    async def _shown(self, item: inbox_pb2.InboxItem, caller: Caller) -> Json:
        text = item.text
        if item.body_ref:  # too large for the item
            request = self._checked(
                pb.GetActivityRequest(workspace_id=caller.workspace_id, activity_id=item.body_ref)
            )
            text = (await self._platform.get_activity(request)).data.text
        return items.of_inbox(item, text, await self._peers.find(item.source_id))

    async def _pop(self, given: arguments.Pop, caller: Caller) -> object:
        request = self._checked(
            pb.AckInboxRequest(
                workspace_id=caller.workspace_id, activity_ids=[str(given.activity_id)]
            )
        )
        return {"removed": (await self._platform.ack(request)).removed > 0}

    async def _history(self, given: arguments.History, caller: Caller) -> object:
        request = self._checked(
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
        request = self._checked(
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

    def _checked(self, request: Request) -> Request:
        self._platform.check(request)
        return request


def _peer(peer: workspace_pb2.Peer) -> Json:
    return {
        "id": peer.id,
        "name": peer.name,
        "role": peer.role,
        "status": workspace_pb2.Workspace.Status.Name(peer.status),
        "active_tasks": peer.active_tasks,
    }


def _task(found: delegation_pb2.Delegation) -> Json:
    """A task as its parties see it; what is not known is left out."""
    task: Json = {
        "task_id": found.delegation_id,
        "status": _STATUS.Name(found.status),
        "workspace_id": found.target_id if found.direction == "sent" else found.source_id,
        "direction": found.direction,
        "updated_at": found.updated_at.ToJsonString(),
    }
    for name in _OPTIONAL:
        if found.HasField(name):
            task[name] = getattr(found, name)
    if found.failure_reason:
        task["failure_reason"] = _REASON.Name(found.failure_reason)
    if found.truncated:
        task["truncated"] = True
    return task


def _size(shown: Json) -> int:
    return len(str(shown["text"]).encode())
