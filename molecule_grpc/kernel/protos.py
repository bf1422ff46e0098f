"""Values as protobuf's well-known types."""

from __future__ import annotations

from datetime import datetime

from google.protobuf import json_format, struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A proto timestamp; None stays None."""
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def value(text: str | None) -> struct_pb2.Value | None:
    """JSON text as a proto value; None stays None. Numbers become doubles."""
    if text is None:
        return None
    result = struct_pb2.Value()
    json_format.Parse(text, result)
    return result
