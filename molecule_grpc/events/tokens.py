"""Resume tokens: a place in the feed, as the opaque text that clients hand back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from molecule_grpc.events.values import Position
from molecule_grpc.kernel.errors import Invalid, OutOfRange

_FIELD = "resume_after"


def make_token(place: Position, moment: datetime) -> str:
    """A token for the place. Its moment tells when events behind the place have been pruned."""
    return f"{place.xact}.{place.position}.{int(moment.timestamp())}"


def read_token(token: str, *, kept_days: int) -> Position:
    """The place that the token was made for.

    Args:
        kept_days: days for which kept events can be read.

    Raises:
        Invalid: the token is not one of ours.
        OutOfRange: events behind the place were pruned, so a reader would miss them.
    """
    try:
        xact, position, moment = (int(part) for part in token.split("."))
        if not (0 <= xact < 2**63 and 0 <= position < 2**63):
            raise ValueError("out of range")
        age = datetime.now(UTC) - datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError, OSError):
        raise Invalid("resume_after is not one of ours", field=_FIELD) from None
    if age > timedelta(days=kept_days):
        raise OutOfRange(
            "the events after this token were pruned; start without it", reason="CURSOR_PRUNED"
        )
    return Position(xact, position)
