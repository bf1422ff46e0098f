"""Times that clients send, as the database keeps them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

# asyncpg stores these two as Postgres's infinities, and reads infinities without a time zone.
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


def storable(moment: datetime) -> datetime:
    """The moment in UTC.

    Raises:
        ValueError: it is the first or the last microsecond of the years 1 to 9999, or beyond.
    """
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("out of range") from None
    if utc in (_FIRST, _LAST):
        raise ValueError("out of range")
    return utc
