"""Pure decisions about delegations and inboxes."""

from __future__ import annotations

import enum
import hashlib
import math
from datetime import UTC, datetime, timedelta
from uuid import UUID

from molecule_grpc.kernel.errors import Invalid

DEFAULT_DEADLINE_SECONDS = 6 * 3600
MAX_SINCE_SECONDS = 30 * 24 * 3600
DEFAULT_ACTIVITY_LIMIT = 100
MAX_ACTIVITY_LIMIT = 500
# Begins the message ids and idempotency keys that the platform makes; callers may not choose such.
PLATFORM = "molecule:"


class Status(enum.StrEnum):
    """Where a delegation stands."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    STUCK = "stuck"


LIVE = frozenset({Status.QUEUED, Status.DISPATCHED, Status.IN_PROGRESS})
FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.STUCK})


def request_hash(target_id: UUID, task: str) -> bytes:
    """Equal for two requests that ask for the same thing."""
    return hashlib.sha256(target_id.bytes + task.encode()).digest()


def activity_limit(text: str) -> int:
    """How many rows a poller gets; anything that is not a positive number means the default."""
    try:
        limit = int(text)
    except ValueError:
        return DEFAULT_ACTIVITY_LIMIT
    return min(limit, MAX_ACTIVITY_LIMIT) if limit > 0 else DEFAULT_ACTIVITY_LIMIT


def since(text: str, now: datetime) -> datetime | None:
    """Start of the window of the last so many seconds; None when none is asked for.

    Raises:
        Invalid: it is not a positive whole number.
    """
    if not text:
        return None
    seconds = int(text) if text.isascii() and text.isdigit() else 0
    if seconds == 0:
        raise Invalid("since_secs must be a positive integer", field="since_secs")
    return now - timedelta(seconds=min(seconds, MAX_SINCE_SECONDS))


def timestamp(text: str, field: str) -> datetime | None:
    """An RFC 3339 time; None when there is none.

    Raises:
        Invalid: it is not one, or has no offset from UTC.
    """
    if not text:
        return None
    try:
        # A `+` in a query string may arrive as a blank.
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(f"{field} must be an RFC 3339 timestamp", field=field) from None


def nack_delay(seconds: float) -> float:
    """A delay that is safe to add to a clock."""
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), 86_400.0)
