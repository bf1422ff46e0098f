"""Times as protobuf's well-known type."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_SECONDS: Final = 24 * 3600


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A proto timestamp of a moment with a time zone; None stays None.

    It takes 0.5 us; `FromDatetime` takes 1.8, and each inbox item has two.
    """
    if moment is None:
        return None
    since = moment - _EPOCH
    return Timestamp(
        seconds=since.days * _DAY_SECONDS + since.seconds, nanos=since.microseconds * 1000
    )


def rfc3339(moment: datetime) -> str:
    """A moment as every answer has it: with `Z` for UTC, and 0, 3, 6 or 9 digits of a fraction."""
    stamp = timestamp(moment)
    assert stamp is not None
    return stamp.ToJsonString()
