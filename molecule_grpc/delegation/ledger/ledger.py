"""Handing over work, and reporting on it: the ledger's use cases."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from moleculeai.delegation.v1 import delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Wakeups, delegation_key
from molecule_grpc.delegation import convert
from molecule_grpc.delegation.ledger import rules
from molecule_grpc.delegation.ledger.store import ledger
from molecule_grpc.delegation.ledger.store import views as ledger_views
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.delegation.outbound.due import DueWorkspaces
from molecule_grpc.delegation.ports import Directory
from molecule_grpc.delegation.record.a2a import message_body
from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.directory import WorkspaceInfo
from molecule_grpc.kernel.errors import Aborted, Invalid, NotFound, Unavailable
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.text import RESULT_BYTES, clean, cut_bytes, cut_chars
from molecule_grpc.server.call import Call

_STATUS = delegation_pb2.Delegation.Status
_DEFAULT_PAGE = 50
_RETRY_BACKOFF_SECONDS = 10
# How long a waiting caller trusts wake-ups before it looks by itself.
_LOOK_SECONDS = 5.0
_ACCEPT_TRIES = 4


class Ledger:
    """Accepts delegations and moves them forward."""

    def __init__(
        self,
        pool: Pool,
        writes: LedgerWrites,
        wakeups: Wakeups,
        directory: Directory,
        due_workspaces: DueWorkspaces,
    ) -> None:
        self._pool = pool
        self._due_workspaces = due_workspaces
        self._writes = writes
        self._wakeups = wakeups
        self._directory = directory

    async def delegate(self, request: pb.DelegateRequest, call: Call) -> pb.DelegateResponse:
        """Accept a task and hand it over; maybe wait for its end."""
        source, target = UUID(request.workspace_id), UUID(request.target_id)
        task = clean(request.task)
        key = clean(request.idempotency_key) or None
        if key is not None and key.startswith(PLATFORM):
            raise Invalid(
                f"idempotency_key must not begin with {PLATFORM}", field="idempotency_key"
            )
        facts = await self._require_target(source, target)
        pushed = facts.delivery_mode != "poll"
        delegation_id = str(new_id())
        body = json.dumps(message_body(delegation_id, task), separators=(",", ":"))
        draft = ledger.DelegationDraft(
            delegation_id=delegation_id,
            caller_id=source,
            callee_id=target,
            organization_id=facts.organization_id,
            task_preview=cut_bytes(task),
            status=rules.Status.QUEUED,
            idempotency_key=key,
            request_hash=rules.request_hash(target, task),
            deadline_seconds=request.deadline_seconds or rules.DEFAULT_DEADLINE_SECONDS,
            audit_id=new_id(),
            item_id=new_id(),
            request_body=body,
            bytes=len(body.encode()),
            max_attempts=request.max_attempts or 1,
            retry_backoff_seconds=request.retry_backoff_seconds or _RETRY_BACKOFF_SECONDS,
            queue_id=new_id() if pushed else None,
        )
        earlier = await self._accept(draft)
        if pushed and earlier is None:
            self._due_workspaces.add(target)
        response = pb.DelegateResponse(
            delegation_id=earlier or delegation_id,
            status="delegated",
            target_id=str(target),
            idempotent_hit=earlier is not None,
        )
        if earlier is not None or request.wait_seconds:
            found = await self._wait(source, response.delegation_id, request.wait_seconds, call)
            if earlier is not None:
                call.set_http_status(200)
                response.status = _STATUS.Name(found.status)
            if request.wait_seconds:
                response.delegation.CopyFrom(found)
                response.status = _STATUS.Name(found.status)
                if response.status in rules.FINAL:
                    call.set_http_status(200)
        return response

    async def record(self, request: pb.RecordDelegationRequest) -> pb.RecordDelegationResponse:
        """Enter a task that the agent handed over by itself: queued, and at once dispatched."""
        source, target = UUID(request.workspace_id), UUID(request.target_id)
        task = clean(request.task)
        delegation_id = clean(request.delegation_id)
        if not delegation_id:
            raise Invalid("delegation_id is required", field="delegation_id")
        draft = ledger.DelegationDraft(
            delegation_id=delegation_id,
            caller_id=source,
            callee_id=target,
            organization_id=(await self._require_target(source, target)).organization_id,
            task_preview=cut_bytes(task),
            status=rules.Status.DISPATCHED,
            idempotency_key=None,
            request_hash=rules.request_hash(target, task),
            deadline_seconds=rules.DEFAULT_DEADLINE_SECONDS,
            audit_id=new_id(),
            item_id=None,
            request_body="null",
            bytes=0,
        )
        if not await self._writes.accept(draft):
            by_id, _ = await ledger_views.find_taken(self._pool, draft)
            if by_id is None or by_id["caller_id"] != source:
                raise Aborted(
                    "this delegation_id is taken",
                    reason="DELEGATION_ID_TAKEN",
                    metadata={"delegation_id": delegation_id},
                )
        return pb.RecordDelegationResponse(delegation_id=delegation_id, status="recorded")

    async def update(self, request: pb.UpdateDelegationRequest) -> pb.UpdateDelegationResponse:
        """Report progress or an outcome. The first final report wins."""
        status = rules.Status(_STATUS.Name(request.status))
        text = clean(request.response_preview)
        error = clean(request.error)
        move = self.draft_move(
            request.delegation_id,
            UUID(request.workspace_id),
            status,
            text=text if status is rules.Status.COMPLETED else None,
            error=(error or "the agent reported a failure")
            if status is rules.Status.FAILED
            else None,
            reason="agent_error" if status is rules.Status.FAILED else None,
        )
        outcome = await self._move(move)
        return pb.UpdateDelegationResponse(
            status=_status(move, outcome),
            delegation_id=request.delegation_id,
            applied=outcome.moved or outcome.same,
        )

    async def heartbeat(
        self, request: pb.HeartbeatDelegationRequest
    ) -> pb.HeartbeatDelegationResponse:
        """A sign of work. The first one moves the delegation to in_progress."""
        workspace_id = UUID(request.workspace_id)
        move = self.draft_move(request.delegation_id, workspace_id, rules.Status.IN_PROGRESS)
        if request.HasField("note"):
            move = move._replace(note=clean(request.note))
        if request.HasField("percent"):
            move = move._replace(percent=request.percent)
        outcome = await self._move(move)
        return pb.HeartbeatDelegationResponse(
            status=_status(move, outcome),
            delegation_id=request.delegation_id,
            applied=outcome.moved,
        )

    async def cancel(self, request: pb.CancelDelegationRequest) -> pb.CancelDelegationResponse:
        """Call a delegation off."""
        reason = clean(request.reason)
        move = self.draft_move(
            request.delegation_id,
            UUID(request.workspace_id),
            rules.Status.FAILED,
            error=f"cancelled by the caller: {reason}" if reason else "cancelled by the caller",
            reason="cancelled",
        )._replace(by_caller=True)
        outcome = await self._move(move)
        return pb.CancelDelegationResponse(
            status=_status(move, outcome),
            delegation_id=request.delegation_id,
            applied=outcome.moved or outcome.same,
        )

    async def beat(self, workspace_id: UUID, delegation_ids: list[str]) -> None:
        """Signs of work that came with a workspace's heartbeat. Unknown ids are ignored."""
        for delegation_id in dict.fromkeys(delegation_ids):
            await self._writes.move(
                self.draft_move(delegation_id, workspace_id, rules.Status.IN_PROGRESS)
            )

    async def get(self, request: pb.GetDelegationRequest) -> delegation_pb2.Delegation:
        """One delegation with its whole result."""
        return await self._get(UUID(request.workspace_id), request.delegation_id)

    async def list(
        self, request: pb.ListDelegationsRequest, call: Call
    ) -> pb.ListDelegationsResponse:
        """A page of delegations, newest first."""
        workspace_id = UUID(request.workspace_id)
        limit = request.limit or _DEFAULT_PAGE
        page = ledger_views.DelegationQuery(
            limit=limit,
            status=request.status or None,
            direction=request.direction or None,
            before=_read_token(request.page_token),
        )
        rows = await ledger_views.list_rows(self._pool, workspace_id, page)
        if len(rows) == limit:
            call.headers["x-next-page-token"] = _page_token(rows[-1])
        return pb.ListDelegationsResponse(
            delegations=[convert.delegation(row, workspace_id, whole=False) for row in rows]
        )

    def draft_move(
        self,
        delegation_id: str,
        party_id: UUID,
        to: rules.Status,
        *,
        text: str | None = None,
        error: str | None = None,
        reason: str | None = None,
    ) -> ledger.Move:
        """A move with the rows that announce it. `text` is kept whole up to 1 MiB."""
        delegation_id = clean(delegation_id)
        result = None if text is None else cut_bytes(text, RESULT_BYTES)
        detail = None if error is None else cut_bytes(error)
        announced = {"delegation_id": delegation_id, "text": result if result is not None else ""}
        if to is not rules.Status.COMPLETED:
            announced |= {"text": detail or "", "error": detail or ""}
        body = json.dumps(announced, separators=(",", ":"))
        return ledger.Move(
            delegation_id=delegation_id,
            party_id=party_id,
            to=to,
            result_preview=None if result is None else cut_bytes(result),
            result=result,
            truncated=result is not None and result != text,
            error_detail=detail,
            failure_reason=reason,
            summary=cut_chars(f"Delegation {to}: {result or detail or ''}", 120),
            response_body=body,
            bytes=len(body.encode()),
            audit_id=new_id(),
            item_id=new_id(),
        )

    async def _require_target(self, source: UUID, target: UUID) -> WorkspaceInfo:
        if source == target:
            raise Invalid(
                "self-delegation not permitted", field="target_id", reason="SELF_DELEGATION"
            )
        return await self._directory.require_reachable(source, target)

    async def _accept(self, draft: ledger.DelegationDraft) -> str | None:
        """Accept; the id of the earlier delegation when the key was used for the same content."""
        for _ in range(_ACCEPT_TRIES):
            if await self._writes.accept(draft):
                return None
            _, taken = await ledger_views.find_taken(self._pool, draft)
            if taken is None or draft.idempotency_key is None:
                continue  # freed meanwhile
            if taken["status"] == rules.Status.FAILED or taken["old"]:
                async with self._pool.acquire() as conn:
                    await ledger.free_key(conn, draft.caller_id, draft.idempotency_key)
                continue
            if taken["request_hash"] != draft.request_hash:
                raise Aborted(
                    "this idempotency_key was used for another task",
                    reason="IDEMPOTENCY_MISMATCH",
                    metadata={"delegation_id": taken["delegation_id"]},
                )
            return str(taken["delegation_id"])
        raise Unavailable("the idempotency_key is contended, try again", retry_after=1)

    async def _move(self, move: ledger.Move) -> ledger.Moved:
        outcome = await self._writes.move(move)
        if not outcome.found:
            raise _not_found(move.delegation_id)
        return outcome

    async def _wait(
        self, workspace_id: UUID, delegation_id: str, seconds: int, call: Call
    ) -> delegation_pb2.Delegation:
        """The delegation when it ends, or as it is when time is up."""
        left = call.remaining()
        end = time.monotonic() + (seconds if left is None else min(seconds, max(0.0, left - 0.5)))
        with self._wakeups.watch(delegation_key(delegation_id)) as flag:
            while True:
                flag.clear()
                found = await self._get(workspace_id, delegation_id)
                rest = end - time.monotonic()
                if rest <= 0 or _STATUS.Name(found.status) in rules.FINAL:
                    return found
                await flag.wait(min(rest, _LOOK_SECONDS))

    async def _get(self, workspace_id: UUID, delegation_id: str) -> delegation_pb2.Delegation:
        row = await ledger_views.get(self._pool, workspace_id, clean(delegation_id))
        if row is None:
            raise _not_found(delegation_id)
        return convert.delegation(row, workspace_id, whole=True)


def _status(move: ledger.Move, outcome: ledger.Moved) -> delegation_pb2.Delegation.Status.ValueType:
    """The status that the ledger holds after a move was tried."""
    moved = outcome.moved and not outcome.retried
    return _STATUS.Value(move.to if moved else outcome.before or "status_unspecified")


def _not_found(delegation_id: str) -> NotFound:
    return NotFound(
        "delegation not found",
        reason="DELEGATION_NOT_FOUND",
        metadata={"delegation_id": delegation_id},
    )


def _page_token(row: asyncpg.Record) -> str:
    text = json.dumps([row["created_at"].isoformat(), row["delegation_id"]])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_token(token: str) -> tuple[datetime, str] | None:
    if not token:
        return None
    try:
        created, delegation_id = json.loads(base64.urlsafe_b64decode(token))
        moment = datetime.fromisoformat(created)
        if moment.tzinfo is None or not isinstance(delegation_id, str):
            raise ValueError("not ours")
        return moment.astimezone(UTC), clean(delegation_id)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise Invalid("page_token is not one of ours", field="page_token") from None
