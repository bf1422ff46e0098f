"""How callers of SendMessage read what became of their message."""

from __future__ import annotations

import json
from collections.abc import Mapping

from google.api import httpbody_pb2

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
from molecule_grpc.server.call import Call

STATUS_HEADER = "x-agent-status"
_BUSY_RETRY_SECONDS = 30
_START_RETRY_SECONDS = 15
# Statuses by which a response must not have a body.
_BODILESS = (204, 205, 304)


def answer(outcome: DispatchOutcome, method: str, call: Call) -> httpbody_pb2.HttpBody:
    """The response for an outcome.

    Raises:
        MoleculeError: there is no answer.
    """
    match outcome:
        case Delivered():
            call.headers[STATUS_HEADER] = str(outcome.status)
            call.set_http_status(outcome.status)
            body = b"" if outcome.status in _BODILESS else outcome.body
            return httpbody_pb2.HttpBody(content_type="application/json", data=body)
        case Queued():
            return _queued(outcome, method, call)
        case NotSent():
            raise _refusal(outcome)
        case Failed():
            raise _failure(outcome)


def _queued(outcome: Queued, method: str, call: Call) -> httpbody_pb2.HttpBody:
    if outcome.mode is not Mode.BUSY:
        said = {"status": "queued", "delivery_mode": str(outcome.mode), "method": method}
        if outcome.queue_id is not None:
            said["queue_id"] = str(outcome.queue_id)
        return json_body(said)
    call.set_http_status(202)
    return json_body(
        {
            "queued": True,
            "queue_id": str(outcome.queue_id),
            "queue_depth": outcome.depth,
            "message": "workspace agent is busy; the message is queued and will be delivered",
        }
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


def json_body(said: Mapping[str, object]) -> httpbody_pb2.HttpBody:
    """A body that the platform makes, compact."""
    data = json.dumps(said, separators=(",", ":")).encode()
    return httpbody_pb2.HttpBody(content_type="application/json", data=data)
