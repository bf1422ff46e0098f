"""Times of the contract: RFC 3339 with an offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, overload

from molecule_grpc.kernel.moments import storable

_RFC3339: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


def as_time(text: str) -> datetime:
    """A time from its text, in UTC, to the microsecond.

    Raises:
        ValueError: the text is no RFC 3339 time with an offset, or the time cannot be stored.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not RFC 3339")
    day, clock, fraction, offset = match.groups()
    micros = (fraction or "0")[:6].ljust(6, "0")
    zone = "+00:00" if offset in "Zz" else offset
    return storable(datetime.fromisoformat(f"{day}T{clock}.{micros}{zone}"))


@overload
def as_text(time: datetime) -> str: ...
@overload
def as_text(time: None) -> None: ...
def as_text(time: datetime | None) -> str | None:
    """A time as the contract writes it, in UTC; None for None."""
    return None if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")
