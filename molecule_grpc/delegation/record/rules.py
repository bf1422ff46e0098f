"""Pure decisions about the record of a workspace: which rows a poller asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from molecule_grpc.kernel.errors import Invalid

MAX_SINCE_SECONDS = 30 * 24 * 3600
DEFAULT_ACTIVITY_LIMIT = 100
MAX_ACTIVITY_LIMIT = 500
# Message ids and idempotency keys that the platform makes begin with this; callers may not use it.
PLATFORM = "molecule:"


def activity_limit(text: str) -> int:
    """How many rows a poller gets, at most 500; 100 when the text is not a positive number."""
    try:
        limit = int(text)
    except ValueError:
        return DEFAULT_ACTIVITY_LIMIT
    return min(limit, MAX_ACTIVITY_LIMIT) if limit > 0 else DEFAULT_ACTIVITY_LIMIT


def since(text: str, now: datetime) -> datetime | None:
    """The moment that lies this many seconds before now, at most 30 days; None for no text.

    Raises:
        Invalid: the text is not a positive whole number.
    """
    if not text:
        return None
    seconds = int(text) if text.isascii() and text.isdigit() else 0
    if seconds == 0:
        raise Invalid("since_secs must be a positive integer", field="since_secs")
    return now - timedelta(seconds=min(seconds, MAX_SINCE_SECONDS))


def timestamp(text: str, field: str) -> datetime | None:
    """A moment from its RFC 3339 text; None for no text.

    Raises:
        Invalid: the text is not RFC 3339, or has no offset from UTC; names `field`.
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
