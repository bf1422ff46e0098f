"""Pure decisions about delegations: their statuses, and which moves between them are permitted."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from uuid import UUID

DEFAULT_DEADLINE_SECONDS = 6 * 3600
DEFAULT_RETRY_BACKOFF_SECONDS = 10
# The error of a delegation whose agent answered without saying anything.
EMPTY_ANSWER: Final = "workspace agent returned empty response"


class Status(enum.StrEnum):
    """Where a delegation stands."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    STUCK = "stuck"


LIVE: Final = frozenset({Status.QUEUED, Status.DISPATCHED, Status.IN_PROGRESS})
FINAL: Final = frozenset(Status) - LIVE

# Target status -> the statuses that a delegation may leave for it. A delegation begins as `queued`
# (the platform hands the task over) or `dispatched` (the agent did). A heartbeat may repeat
# `in_progress`. A failure with attempts left keeps the status: see `retry_count`.
PERMITTED: Final[Mapping[Status, frozenset[Status]]] = MappingProxyType(
    {
        Status.QUEUED: frozenset(),
        Status.DISPATCHED: frozenset({Status.QUEUED}),
        Status.IN_PROGRESS: LIVE,
        Status.COMPLETED: LIVE,
        Status.FAILED: LIVE,
        Status.STUCK: LIVE,
    }
)
# An ended delegation with one of these statuses may be handed over again, as a new delegation.
RETRIABLE: Final = frozenset({Status.FAILED, Status.STUCK})


def request_hash(target_id: UUID, task: str) -> bytes:
    """SHA-256 that is equal for two requests with the same target and task."""
    return hashlib.sha256(target_id.bytes + task.encode()).digest()
