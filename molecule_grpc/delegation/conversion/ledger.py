"""The ledger's RPCs: requests to values, and values to responses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from uuid import UUID

from moleculeai.delegation.v1 import delegation_pb2, inbox_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.delegation.conversion import frames
from molecule_grpc.delegation.ledger.handover import HandedOver, Handover
from molecule_grpc.delegation.ledger.rules import (
    DEFAULT_DEADLINE_SECONDS,
    DEFAULT_RETRY_BACKOFF_SECONDS,
    Status,
)
from molecule_grpc.delegation.ledger.store.views import DelegationRow
from molecule_grpc.delegation.ledger.watch import Signal
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.kernel.slices import in_slices
from molecule_grpc.kernel.text import cut_chars
from molecule_grpc.server.status import CallFailure

_PREVIEW_CHARS = 300
_OUTCOME_CHARS = 80
_TASK_CHARS = 200
_STATUS = delegation_pb2.Delegation.Status


def handover_of(request: pb.DelegateRequest, remaining: float | None) -> Handover:
    """The task that a request hands over. Numbers that are 0 mean their defaults.

    Args:
        remaining: seconds until the caller gives up; None when it waits for ever.
    """
    return Handover(
        source=parse_id(request.workspace_id, "workspace_id"),
        target=parse_id(request.target_id, "target_id"),
        task=request.task,
        idempotency_key=request.idempotency_key,
        deadline_seconds=request.deadline_seconds or DEFAULT_DEADLINE_SECONDS,
        max_attempts=request.max_attempts or 1,
        retry_backoff_seconds=request.retry_backoff_seconds or DEFAULT_RETRY_BACKOFF_SECONDS,
        wait_seconds=request.wait_seconds,
        remaining=remaining,
    )


def delegate_response(handover: Handover, done: HandedOver) -> pb.DelegateResponse:
    """The answer to a task that is in the ledger; with the delegation when the caller waited."""
    response = pb.DelegateResponse(
        delegation_id=done.delegation_id,
        status="delegated" if done.delegation is None else done.delegation.status,
        target_id=str(handover.target),
        idempotent_hit=done.earlier,
    )
    if done.delegation is not None and handover.wait_seconds:
        response.delegation.CopyFrom(delegation(done.delegation, handover.source, whole=True))
    return response


def status_value(status: str) -> delegation_pb2.Delegation.Status.ValueType:
    """A status as the enum of the contract."""
    return _STATUS.Value(status)


def status_of(value: delegation_pb2.Delegation.Status.ValueType) -> Status:
    """A status from the enum of the contract."""
    return Status(_STATUS.Name(value))


async def delegations(
    rows: Sequence[DelegationRow], viewer: UUID
) -> list[delegation_pb2.Delegation]:
    """A list of delegations from the viewer's side, without their results."""
    return await in_slices(partial(delegation, viewer=viewer, whole=False), rows)


def delegation(row: DelegationRow, viewer: UUID, *, whole: bool) -> delegation_pb2.Delegation:
    """A delegation from the viewer's side.

    Args:
        whole: whether to include the result.
    """
    message = delegation_pb2.Delegation(
        id=row.delegation_id,
        type="delegation",
        delegation_id=row.delegation_id,
        source_id=str(row.caller_id),
        target_id=str(row.callee_id),
        summary=_summary(row),
        status=_STATUS.Value(row.status),
        direction="sent" if row.caller_id == viewer else "received",
        task_preview=row.task_preview,
        truncated=row.truncated,
        retry_count=row.retry_count,
        max_attempts=row.max_attempts,
        last_heartbeat=timestamp(row.last_heartbeat),
        deadline=timestamp(row.deadline),
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        error=row.error_detail,
        progress_note=row.progress_note,
        progress_percent=row.progress_percent,
        retry_of=row.retry_of,
        result=row.result if whole else None,
    )
    if row.failure_reason:
        message.failure_reason = delegation_pb2.FailureReason.Value(row.failure_reason)
    if row.result_preview is not None:
        message.response_preview = cut_chars(row.result_preview, _PREVIEW_CHARS)
    return message


async def watch_frames(
    states: AsyncGenerator[DelegationRow | Signal, None], viewer: UUID
) -> AsyncGenerator[pb.WatchDelegationResponse, None]:
    """The frames of WatchDelegation; an empty End follows when the delegation has ended."""
    async with aclosing(states):
        async for state in states:
            yield _watch_frame(state, viewer)
    yield pb.WatchDelegationResponse(end=inbox_pb2.End())


def _watch_frame(state: DelegationRow | Signal, viewer: UUID) -> pb.WatchDelegationResponse:
    match state:
        case Signal.BEAT:
            return pb.WatchDelegationResponse(beat=frames.beat())
        case Signal.DRAIN:
            return pb.WatchDelegationResponse(drain=frames.drain())
        case DelegationRow():
            return pb.WatchDelegationResponse(delegation=delegation(state, viewer, whole=True))


def watch_end(failure: CallFailure) -> pb.WatchDelegationResponse:
    """The last frame of a WatchDelegation that the server ends with an error."""
    return pb.WatchDelegationResponse(end=frames.end(failure))


def _summary(row: DelegationRow) -> str:
    if row.status == Status.COMPLETED and row.result_preview is not None:
        return "Delegation completed: " + cut_chars(row.result_preview, _OUTCOME_CHARS)
    if row.status in (Status.FAILED, Status.STUCK):
        detail = cut_chars(row.error_detail or "no detail", _OUTCOME_CHARS)
        return f"Delegation {row.status}: {detail}"
    return cut_chars(row.task_preview, _TASK_CHARS)
