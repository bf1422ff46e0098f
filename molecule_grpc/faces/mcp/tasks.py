"""The tools for delegations: list peers, delegate, follow, report."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from molecule_grpc.delegation.ledger.handover import HandedOver, Handover
from molecule_grpc.delegation.ledger.rules import FINAL, Status
from molecule_grpc.delegation.ledger.store.views import DelegationRow
from molecule_grpc.directory import Peer
from molecule_grpc.faces.mcp import arguments
from molecule_grpc.faces.mcp.items import Json
from molecule_grpc.faces.mcp.tools import Caller, Tool
from molecule_grpc.faces.port import Platform
from molecule_grpc.kernel.protos import timestamp

# How long delegate_task holds the line.
WAIT_SECONDS = 30


class Tasks:
    """Runs the tools through the use cases that the RPCs call."""

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
            stores=True,
        )
        yield Tool(
            "delegate_task_async",
            "Hand a task to a peer and go on at once. Returns its task_id for check_task_status; "
            "the result comes to your inbox.",
            arguments.Delegate,
            self._delegate_async,
            stores=True,
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
            stores=True,
        )

    async def _list_peers(self, given: arguments.ListPeers, caller: Caller) -> object:
        found = await self._platform.peers(caller.workspace_id, given.q, given.limit)
        return [_peer(peer) for peer in found]

    async def _delegate(self, given: arguments.Delegate, caller: Caller) -> object:
        handed = await self._hand_over(given, caller, wait_seconds=WAIT_SECONDS)
        assert handed.delegation is not None
        task = _task(handed.delegation, caller.workspace_id)
        if task["status"] not in FINAL:
            task["next"] = "not ended yet: use check_task_status with this task_id"
        return task

    async def _delegate_async(self, given: arguments.Delegate, caller: Caller) -> object:
        handed = await self._hand_over(given, caller, wait_seconds=0)
        status = handed.delegation.status if handed.delegation else "delegated"
        return {"task_id": handed.delegation_id, "status": status}

    async def _hand_over(
        self, given: arguments.Delegate, caller: Caller, *, wait_seconds: int
    ) -> HandedOver:
        handover = Handover(
            source=caller.workspace_id,
            target=given.workspace_id,
            task=given.task,
            idempotency_key=given.idempotency_key,
            wait_seconds=wait_seconds,
            remaining=caller.call.remaining(),
        )
        return await self._platform.handovers.delegate(
            handover, authorization=caller.call.authorization
        )

    async def _check_task(self, given: arguments.CheckTask, caller: Caller) -> object:
        found = await self._platform.views.get(caller.workspace_id, given.task_id)
        return _task(found, caller.workspace_id)

    async def _update_task(self, given: arguments.UpdateTask, caller: Caller) -> object:
        done = await self._platform.moves.update(
            caller.workspace_id,
            given.task_id,
            Status(given.status),
            text=given.text,
            error=given.text,
        )
        return {"task_id": given.task_id, "status": done.status, "applied": done.applied}


def _peer(peer: Peer) -> Json:
    return {
        "id": str(peer.id),
        "name": peer.name,
        "role": peer.role,
        "status": peer.status,
        "active_tasks": peer.active_tasks,
    }


def _task(found: DelegationRow, viewer: UUID) -> Json:
    """A delegation as JSON for caller or callee; unknown values are left out."""
    sent = found.caller_id == viewer
    stamp = timestamp(found.updated_at)
    assert stamp is not None
    task: Json = {
        "task_id": found.delegation_id,
        "status": found.status,
        "workspace_id": str(found.callee_id if sent else found.caller_id),
        "direction": "sent" if sent else "received",
        "updated_at": stamp.ToJsonString(),
    }
    optional = {
        "result": found.result,
        "error": found.error_detail,
        "progress_note": found.progress_note,
        "progress_percent": found.progress_percent,
        "failure_reason": found.failure_reason,
        "truncated": found.truncated or None,
    }
    return task | {name: value for name, value in optional.items() if value is not None}
