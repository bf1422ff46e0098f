"""What became of a message on its way to an agent: one type for whoever sends."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from molecule_grpc.delegation.outbound.replies import Reply


class SendFailure(enum.StrEnum):
    """Why a message got no answer that can be used."""

    BUSY = "busy_retryable"
    """It may or may not have arrived, and the agent may be well: send it again later."""
    UNREADABLE = "delivered_unreadable"
    """It arrived, and the answer is lost. Never send it again."""
    DEAD = "upstream_dead"
    """The agent's container does not run."""
    UNREACHABLE = "unreachable"
    """Nothing that speaks HTTP listens at the agent's URL."""


class Mode(enum.StrEnum):
    """Where a message waits."""

    BUSY = "busy"
    """In the queue, until the agent has room for it."""
    PUSH_ASYNC = "push-async"
    """On its way; whoever sent it has stopped waiting for the answer."""
    POLL = "poll"
    """In the inbox of an agent that nobody can call."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The agent answered, with this HTTP status."""

    status: int
    body: bytes
    reply: Reply
    duration_ms: int
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the answer is a success as far as HTTP goes."""
        return self.status < 300


@dataclass(frozen=True, slots=True)
class Queued:
    """It is on disk and will be delivered."""

    mode: Mode
    queue_id: UUID | None = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class NotSent:
    """It was not sent.

    Args:
        reason: name from the catalogue of errors.
        passing: whether that may be over soon, without anybody's help.
    """

    reason: str
    detail: str
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """It was sent, or tried to be, and there is no answer."""

    failure: SendFailure
    detail: str


DispatchOutcome: TypeAlias = Delivered | Queued | NotSent | Failed
