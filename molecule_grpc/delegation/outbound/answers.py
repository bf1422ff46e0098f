"""Outcomes of messages as responses to their senders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from molecule_grpc.delegation.outbound.outcome import (
    Delivered,
    DispatchOutcome,
    Failed,
    Mode,
    NotSent,
    Queued,
    SendFailure,
)
from molecule_grpc.kernel.errors import Conflict, Exhausted, MoleculeError, NotFound, Unavailable

STATUS_HEADER = "x-agent-status"
_BUSY_RETRY_SECONDS = 30
_START_RETRY_SECONDS = 15
# Modes in which a message waits for the agent, in the words of a receipt.
_WAITING = {
    Mode.BUSY: "workspace agent is busy; the message is queued and will be delivered",
    Mode.PAUSED: "the workspace is paused; the message is queued until it is resumed",
}
# Statuses of responses that must not have a body.
_BODILESS = (204, 205, 304)


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a caller.

    Args:
        body: JSON.
        http_status: the status of a REST response; None for the one that the contract declares.
        headers: response headers to add.
    """

    body: bytes
    http_status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(outcome: DispatchOutcome, method: str) -> Answer:
    """The response for an outcome.

    Args:
        method: the A2A method of the message.

    Raises:
        MoleculeError: there is no answer; it says why.
    """
    match outcome:
        case Delivered():
            body = b"" if outcome.status in _BODILESS else outcome.body
            return Answer(body, outcome.status, {STATUS_HEADER: str(outcome.status)})
        case Queued():
            return _queued(outcome, method)
        case NotSent():
            raise _refusal(outcome)
        case Failed():
            raise _failure(outcome)


def _queued(outcome: Queued, method: str) -> Answer:
    if outcome.mode not in _WAITING:
        said = {"status": "queued", "delivery_mode": str(outcome.mode), "method": method}
        if outcome.queue_id is not None:
            said["queue_id"] = str(outcome.queue_id)
        return Answer(_json(said))
    return Answer(
        _json(
            {
                "queued": True,
                "queue_id": str(outcome.queue_id),
                "queue_depth": outcome.depth,
                "message": _WAITING[outcome.mode],
            }
        ),
        http_status=202,
    )


def _refusal(outcome: NotSent) -> MoleculeError:
    match outcome.reason:
        case "URL_NOT_REGISTERED":
            return Unavailable(
                outcome.detail, reason="URL_NOT_REGISTERED", retry_after=_START_RETRY_SECONDS
            )
        case "WORKSPACE_WAKING":
            return Unavailable(
                outcome.detail,
                reason="WORKSPACE_WAKING",
                body={"waking": True},
                retry_after=_START_RETRY_SECONDS,
            )
        case "BUDGET_EXCEEDED":
            return Exhausted(outcome.detail, reason="BUDGET_EXCEEDED")
        case "WORKSPACE_NOT_FOUND":
            return NotFound(outcome.detail, reason="WORKSPACE_NOT_FOUND")
        case _:
            return Unavailable(outcome.detail, reason="URL_NOT_ROUTABLE")


def _failure(outcome: Failed) -> MoleculeError:
    match outcome.failure:
        case SendFailure.BUSY:
            return Unavailable(
                "workspace agent is busy, and the message could not be queued",
                reason="AGENT_BUSY",
                body={"busy": True},
                retry_after=_BUSY_RETRY_SECONDS,
            )
        case SendFailure.DEAD:
            return Unavailable(
                "workspace agent is restarting",
                reason="AGENT_RESTARTING",
                body={"restarting": True},
                retry_after=_START_RETRY_SECONDS,
            )
        case SendFailure.UNREADABLE:
            return Conflict(
                f"the message was delivered, but {outcome.detail}",
                reason="ANSWER_UNREADABLE",
                body={"delivery_confirmed": True},
            )
        case SendFailure.UNREACHABLE:
            return Unavailable("failed to reach workspace agent", reason="AGENT_UNREACHABLE")


def _json(said: Mapping[str, object]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()
