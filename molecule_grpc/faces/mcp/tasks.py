"""The tools for work: who is there, handing it over, following it, reporting on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from moleculeai.delegation.v1 import delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb

from molecule_grpc.faces.mcp import arguments
from molecule_grpc.faces.mcp.items import Json
from molecule_grpc.faces.mcp.ports import Platform
from molecule_grpc.faces.mcp.tools import Caller, Tool

# How long delegate_task holds the line.
WAIT_SECONDS = 30

_STATUS = delegation_pb2.Delegation.Status
_REASON = delegation_pb2.FailureReason
_ENDED = ("completed", "failed", "stuck")
_OPTIONAL: tuple[Literal["result", "error", "progress_note", "progress_percent"], ...] = (
    "result",
    "error",
    "progress_note",
    "progress_percent",
)


class Tasks:
    """Runs them through the use cases of the RPCs."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def tools(self) -> Iterator[Tool]:
        """All of them."""
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

    async def _list_peers(self, given: arguments.ListPeers, caller: Caller) -> object:
        request = self._platform.checked(
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
        request = self._platform.checked(
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
        request = self._platform.checked(
            pb.GetDelegationRequest(workspace_id=caller.workspace_id, delegation_id=given.task_id)
        )
        return _task(await self._platform.get(request))

    async def _update_task(self, given: arguments.UpdateTask, caller: Caller) -> object:
        request = self._platform.checked(
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
