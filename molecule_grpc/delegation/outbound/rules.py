"""Pure decisions about messages for agents: priority, expiry, and what follows an outcome."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from datetime import timedelta

from molecule_grpc.delegation.ledger.rules import EMPTY_ANSWER, Status
from molecule_grpc.delegation.outbound.outcome import (
    Delivered,
    DispatchOutcome,
    Failed,
    Kind,
    NotSent,
    Queued,
    SendFailure,
)
from molecule_grpc.delegation.record.a2a import Envelope
from molecule_grpc.kernel.deadlines import ANSWER_SECONDS
from molecule_grpc.kernel.errors import Invalid

MAX_ATTEMPTS = 5
MAX_BACKOFF_SECONDS = 300.0
# A delegation whose agent cannot be reached is tried once more.
MAX_DELEGATION_MISSES = 2
MAX_MISS_BACKOFF_SECONDS = 60.0

DEFAULT_EXPIRY = timedelta(hours=24)
MAX_EXPIRY_SECONDS = 7 * 24 * 3600
PRIORITIES = {"critical": 100, "task": 50, "info": 10}
# The 4xx answers after which a later attempt may succeed.
_PASSING_STATUSES = frozenset({408, 409, 423, 425, 429})


class QueueStatus(enum.StrEnum):
    """Where a queued message stands."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    COMPLETED = "completed"
    DROPPED = "dropped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class QueueHistory:
    """What has happened to a queued message so far.

    Args:
        delegated: whether it hands over a delegation.
        attempts: answers that were no success.
        misses: how often in a row the agent could not be reached.
        settling: seconds since the agent first said that it is about to be ready; None if never.
    """

    delegated: bool
    attempts: int = 0
    misses: int = 0
    settling: float | None = None


@dataclass(frozen=True, slots=True)
class End:
    """How a delegation ends.

    Args:
        text: the result, for `completed`.
        error: what went wrong, for `failed`.
        final: whether the caller's `max_attempts` leads to no further attempt.
    """

    status: Status
    text: str = ""
    error: str = ""
    reason: str | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a queued message.

    Args:
        delay: seconds before the next attempt.
        waiting: whether the agent's whole queue waits for this message.
        settling: whether the agent is about to be ready.
        end: how the delegation ends; None while it is open, or for a message without one.
    """

    row: QueueStatus
    attempts: int
    misses: int = 0
    delay: float = 0.0
    waiting: bool = False
    settling: bool = False
    error: str | None = None
    end: End | None = None


@dataclass(frozen=True, slots=True)
class RetryTiming:
    """Pauses of the queue, in seconds.

    Args:
        backoff: the first pause after a failure; it doubles up to 300 s, or 60 s for misses.
        retry: the pause before a delegation's second try to reach its agent.
        settle: how long an agent may take to get ready.
    """

    backoff: float
    retry: float
    settle: float


def next_step(outcome: DispatchOutcome, history: QueueHistory, timing: RetryTiming) -> Decision:
    """What becomes of a message after an outcome. Only answers use up attempts."""
    decision = _next_step(outcome, history, timing)
    if history.delegated or decision.end is None:
        return decision
    return replace(decision, end=None)


def _next_step(outcome: DispatchOutcome, history: QueueHistory, timing: RetryTiming) -> Decision:
    match outcome:
        case Delivered():
            return _answered(outcome, history, timing)
        case Queued():
            return Decision(QueueStatus.COMPLETED, history.attempts)
        case NotSent():
            return _refused(outcome, history, timing)
        case Failed():
            return _failed(outcome, history, timing)


def _answered(outcome: Delivered, history: QueueHistory, timing: RetryTiming) -> Decision:
    if outcome.ok:
        return Decision(QueueStatus.COMPLETED, history.attempts, end=_result(outcome))
    detail = outcome.reply.text or f"the workspace agent answered {outcome.status}"
    warming = outcome.status == 503 and outcome.reply.warming
    if warming and not _settled(history, timing):
        return _settle(history, timing, detail)
    attempts = history.attempts + 1
    if 400 <= outcome.status < 500 and outcome.status not in _PASSING_STATUSES:
        end = End(Status.FAILED, error=detail, reason="refused")
        return Decision(QueueStatus.FAILED, attempts, error=detail, end=end)
    if attempts >= MAX_ATTEMPTS:
        end = End(Status.FAILED, error=detail, reason="exhausted")
        return Decision(QueueStatus.FAILED, attempts, error=detail, end=end)
    delay = min(timing.backoff * 2.0 ** (attempts - 1), MAX_BACKOFF_SECONDS)
    return Decision(
        QueueStatus.QUEUED,
        attempts,
        delay=max(delay, outcome.retry_after or 0.0),
        settling=warming,
        error=detail,
    )


def _result(outcome: Delivered) -> End | None:
    match outcome.reply.kind:
        case Kind.RESULT:
            return End(Status.COMPLETED, text=outcome.reply.text)
        case Kind.EMPTY:
            return End(Status.FAILED, error=EMPTY_ANSWER, reason="agent_error")
        case Kind.ERROR:
            return End(Status.FAILED, error=outcome.reply.text, reason="agent_error")
        case Kind.OPEN:
            return None


def _refused(outcome: NotSent, history: QueueHistory, timing: RetryTiming) -> Decision:
    if outcome.passing and not _settled(history, timing):
        return _settle(history, timing, outcome.detail)
    reason = "unreachable" if outcome.passing else "refused"
    end = End(Status.FAILED, error=outcome.detail, reason=reason)
    return Decision(QueueStatus.FAILED, history.attempts, error=outcome.detail, end=end)


def _failed(outcome: Failed, history: QueueHistory, timing: RetryTiming) -> Decision:
    match outcome.failure:
        case SendFailure.BUSY:
            return Decision(
                QueueStatus.QUEUED,
                history.attempts,
                delay=timing.backoff,
                waiting=True,
                error=outcome.detail,
            )
        case SendFailure.UNREADABLE:
            # The agent has the message: a further attempt would do the work twice.
            end = End(Status.FAILED, error=outcome.detail, reason="agent_error", final=True)
            return Decision(
                QueueStatus.COMPLETED, history.attempts + 1, error=outcome.detail, end=end
            )
        case SendFailure.DEAD | SendFailure.UNREACHABLE:
            return _missed(outcome, history, timing)


def _missed(outcome: Failed, history: QueueHistory, timing: RetryTiming) -> Decision:
    misses = history.misses + 1
    if history.delegated and misses >= MAX_DELEGATION_MISSES:
        detail = f"failed to reach workspace agent: {outcome.detail}"
        end = End(Status.FAILED, error=detail, reason="unreachable")
        return Decision(QueueStatus.FAILED, history.attempts, misses, error=detail, end=end)
    backoff = min(timing.backoff * 2.0 ** min(misses - 1, 10), MAX_MISS_BACKOFF_SECONDS)
    return Decision(
        QueueStatus.QUEUED,
        history.attempts,
        misses,
        delay=timing.retry if history.delegated else backoff,
        waiting=True,
        error=outcome.detail,
    )


def _settled(history: QueueHistory, timing: RetryTiming) -> bool:
    """Whether the agent has had the time it may take to get ready."""
    return history.settling is not None and history.settling >= timing.settle


def _settle(history: QueueHistory, timing: RetryTiming, detail: str) -> Decision:
    return Decision(
        QueueStatus.QUEUED,
        history.attempts,
        delay=timing.backoff,
        waiting=True,
        settling=True,
        error=detail,
    )


def priority(envelope: Envelope) -> int:
    """The message's priority from `params.priority`, a word or its number; 50 by default.

    Raises:
        Invalid: the value is neither.
    """
    stated = _params(envelope).get("priority", "task")
    if isinstance(stated, str) and stated in PRIORITIES:
        return PRIORITIES[stated]
    if isinstance(stated, int) and stated in PRIORITIES.values():
        return stated
    raise Invalid("priority must be critical, task or info", field="body.params.priority")


def expiry(envelope: Envelope) -> timedelta:
    """How long a message may wait in the queue: `params.expires_in_seconds`, 24 h by default.

    Raises:
        Invalid: the value is not a positive number, or more than 7 days.
    """
    stated = _params(envelope).get("expires_in_seconds")
    if stated is None:
        return DEFAULT_EXPIRY
    if not isinstance(stated, (int, float)) or not 0 < stated <= MAX_EXPIRY_SECONDS:
        raise Invalid(
            f"expires_in_seconds must be more than 0, at most {MAX_EXPIRY_SECONDS}",
            field="body.params.expires_in_seconds",
        )
    return timedelta(seconds=stated)


def wait_limit(text: str) -> float | None:
    """Seconds from an `X-Timeout` header; 0 for no limit, None when the text is no such number."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1_000_000 else None


def bounded_wait(stated: float | None, left: float | None) -> float | None:
    """How long a caller waits: as stated, and until half a second before its deadline.

    Args:
        stated: seconds that the caller stated; 0 for no limit, None for the default.
        left: seconds until the caller gives up; None when it has no deadline.
    """
    if left is None:
        return stated
    soon = max(ANSWER_SECONDS, left - ANSWER_SECONDS)
    return min(stated or soon, soon)


def _params(envelope: Envelope) -> dict[str, object]:
    params = envelope.body.get("params")
    return params if isinstance(params, dict) else {}
