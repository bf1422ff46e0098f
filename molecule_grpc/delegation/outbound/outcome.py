"""What became of a message on its way to an agent: one type for every sender."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from uuid import UUID


class Kind(enum.Enum):
    """What an agent's answer means for the work that was asked for."""

    RESULT = "result"
    """The work is done; the text is the result."""
    EMPTY = "empty"
    """The answer has no text."""
    ERROR = "error"
    """The agent says that the work failed; the text says why."""
    OPEN = "open"
    """The agent took the work and will report later: a queue's receipt, or a task in progress."""


class Tokens(NamedTuple):
    """Tokens of an answer, as the agent reports them."""

    read: int
    written: int


@dataclass(frozen=True, slots=True)
class Reply:
    """An agent's answer, read and made fit to be kept.

    Args:
        text: its text, at most 1 MiB and 4 bytes.
        stored: the body as JSON text that Postgres takes; None when there was no body. A body
            longer than 1 MiB is kept as its text, marked `truncated`.
        warming: whether the agent says that it is about to be ready.
        tokens: None where the agent says nothing of them.
    """

    kind: Kind
    text: str
    stored: str | None
    warming: bool = False
    tokens: Tokens | None = None


class SendFailure(enum.StrEnum):
    """Why a message got no answer that can be used."""

    BUSY = "busy_retryable"
    """The message may or may not have arrived, and the agent may be well: send it again later."""
    UNREADABLE = "delivered_unreadable"
    """The message arrived, and the answer is lost. Never send it again."""
    DEAD = "upstream_dead"
    """The agent's container does not run."""
    UNREACHABLE = "unreachable"
    """Nothing that speaks HTTP listens at the agent's URL."""


class Mode(enum.StrEnum):
    """Where a message waits."""

    BUSY = "busy"
    """In the queue, until the agent has room."""
    PAUSED = "paused"
    """In the queue, until the workspace is resumed."""
    PUSH_ASYNC = "push-async"
    """On its way; the sender has stopped waiting for the answer."""
    POLL = "poll"
    """In the inbox of an agent that reads its inbox and has no URL."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The agent answered with this HTTP status and body.

    Args:
        duration_ms: from the request's first byte to the answer's last one.
        retry_after: seconds of the answer's `Retry-After`; None without one.
    """

    status: int
    body: bytes
    reply: Reply
    duration_ms: int
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the HTTP status says success."""
        return self.status < 300


@dataclass(frozen=True, slots=True)
class Queued:
    """The message is on disk and will be delivered.

    Args:
        queue_id: the row that holds the message; None in an inbox.
        depth: how many messages wait for the agent.
    """

    mode: Mode
    queue_id: UUID | None = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class NotSent:
    """The message was not sent.

    Args:
        reason: name from the catalogue of errors.
        passing: whether the obstacle may be over soon, without anybody's help.
    """

    reason: str
    detail: str
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The message was sent, or should have been, and there is no answer."""

    failure: SendFailure
    detail: str


DispatchOutcome: TypeAlias = Delivered | Queued | NotSent | Failed
