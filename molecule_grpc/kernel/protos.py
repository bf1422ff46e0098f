"""Times as protobuf's well-known type."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A proto timestamp; None stays None."""
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def rfc3339(moment: datetime) -> str:
    """A moment as every answer has it: with `Z` for UTC, and 0, 3, 6 or 9 digits of a fraction."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp.ToJsonString()
