"""Moves of delegations: what agents report, and what the platform decides about their work."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.delegation.ledger.rules import Status
from molecule_grpc.delegation.ledger.store.move import Move, Moved
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.kernel.ids import identifier, is_identifier, new_id
from molecule_grpc.kernel.text import RESULT_BYTES, clean, cut_bytes, cut_chars

_SUMMARY_CHARS = 120


class MoveResult(NamedTuple):
    """The delegation's status after a move was tried, and whether the ledger holds the move."""

    status: str
    applied: bool


class Moves:
    """Moves delegations on behalf of their parties and of the platform."""

    def __init__(self, writes: LedgerWrites) -> None:
        self._writes = writes

    async def update(
        self, workspace_id: UUID, delegation_id: str, status: Status, *, text: str, error: str
    ) -> MoveResult:
        """Report progress or an outcome. The first final report wins; a repeat of it is applied.

        Args:
            text: the result, for `completed`; kept up to 1 MiB.
            error: what went wrong, for `failed`.

        Raises:
            NotFound: DELEGATION_NOT_FOUND: the workspace is no party of such a delegation.
        """
        identifier(delegation_id, "delegation_id")
        failed = status is Status.FAILED
        move = draft_move(
            delegation_id,
            workspace_id,
            status,
            text=clean(text) if status is Status.COMPLETED else None,
            error=(clean(error) or "the agent reported a failure") if failed else None,
            reason="agent_error" if failed else None,
        )
        outcome = await self._move(move)
        return MoveResult(_status(move, outcome), outcome.moved or outcome.same)

    async def heartbeat(
        self,
        workspace_id: UUID,
        delegation_id: str,
        *,
        note: str | None = None,
        percent: int | None = None,
    ) -> MoveResult:
        """Show a sign of work: the first one moves the delegation to `in_progress`.

        Args:
            note: what the agent does now; None keeps the earlier note.
            percent: how much is done, from 0 to 100; None keeps the earlier figure.

        Raises:
            NotFound: DELEGATION_NOT_FOUND: the workspace is no party of such a delegation.
        """
        identifier(delegation_id, "delegation_id")
        move = draft_move(delegation_id, workspace_id, Status.IN_PROGRESS)
        if note is not None or percent is not None:
            move = move._replace(note=None if note is None else clean(note), percent=percent)
        outcome = await self._move(move)
        return MoveResult(_status(move, outcome), outcome.moved)

    async def cancel(self, workspace_id: UUID, delegation_id: str, *, reason: str) -> MoveResult:
        """Call a delegation off, by its caller. A repeat is applied.

        Raises:
            NotFound: DELEGATION_NOT_FOUND: the workspace is not the caller of such a delegation.
        """
        identifier(delegation_id, "delegation_id")
        reason = clean(reason)
        move = draft_move(
            delegation_id,
            workspace_id,
            Status.FAILED,
            error=f"cancelled by the caller: {reason}" if reason else "cancelled by the caller",
            reason="cancelled",
        )._replace(by_caller=True)
        outcome = await self._move(move)
        return MoveResult(_status(move, outcome), outcome.moved or outcome.same)

    async def on_heartbeat(self, workspace_id: UUID, delegation_ids: Iterable[str]) -> None:
        """A workspace's own heartbeat named these delegations as in progress.

        Ids of delegations that the workspace is no party of are ignored.
        """
        for delegation_id in filter(is_identifier, dict.fromkeys(delegation_ids)):
            await self._writes.move(draft_move(delegation_id, workspace_id, Status.IN_PROGRESS))

    async def complete(self, workspace_id: UUID, delegation_id: str, *, text: str) -> Moved:
        """The workspace answered the task with a message: the delegation ends with this result."""
        return await self._writes.move(
            draft_move(delegation_id, workspace_id, Status.COMPLETED, text=text)
        )

    async def fail(
        self, workspace_id: UUID, delegation_id: str, *, error: str, reason: str
    ) -> Moved:
        """The platform gives up on a task. Nothing changes when the delegation has ended.

        Args:
            workspace_id: either party of the delegation.
            reason: a name of `FailureReason`. `agent_error`, `unreachable` and `poisoned` lead to
                another attempt while the caller allows one.
        """
        return await self._writes.move(
            draft_move(delegation_id, workspace_id, Status.FAILED, error=error, reason=reason)
        )

    async def _move(self, move: Move) -> Moved:
        outcome = await self._writes.move(move)
        if not outcome.found:
            raise not_found(move.delegation_id)
        return outcome


def draft_move(
    delegation_id: str,
    party_id: UUID,
    to: Status,
    *,
    text: str | None = None,
    error: str | None = None,
    reason: str | None = None,
) -> Move:
    """A move with the rows that announce an end.

    Args:
        party_id: caller or callee; another organisation may have a delegation of the same id.
        text: the result; cut to 1 MiB.
        error: what went wrong; cut to 4 KiB.
        reason: a name of `FailureReason`.
    """
    result = None if text is None else cut_bytes(text, RESULT_BYTES)
    detail = None if error is None else cut_bytes(error)
    announced = {"delegation_id": delegation_id, "text": result if result is not None else ""}
    if to is not Status.COMPLETED:
        announced |= {"text": detail or "", "error": detail or ""}
    body = json.dumps(announced, separators=(",", ":"))
    return Move(
        delegation_id=delegation_id,
        party_id=party_id,
        to=to,
        result_preview=None if result is None else cut_bytes(result),
        result=result,
        truncated=result is not None and result != text,
        error_detail=detail,
        failure_reason=reason,
        summary=cut_chars(f"Delegation {to}: {result or detail or ''}", _SUMMARY_CHARS),
        response_body=body,
        bytes=len(body.encode()),
        audit_id=new_id(),
        item_id=new_id(),
    )


def not_found(delegation_id: str) -> NotFound:
    """The error for a delegation that is unknown, or that this workspace is no party of."""
    return NotFound(
        "delegation not found",
        reason="DELEGATION_NOT_FOUND",
        metadata={"delegation_id": delegation_id},
    )


def _status(move: Move, outcome: Moved) -> str:
    """The status that the ledger holds after a move was tried."""
    if outcome.moved and not outcome.retried:
        return move.to
    assert outcome.before is not None
    return outcome.before
