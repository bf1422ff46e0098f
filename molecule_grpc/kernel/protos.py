"""Values as protobuf's well-known types."""

from __future__ import annotations

import json
from datetime import datetime

from google.protobuf import json_format, struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from molecule_grpc.kernel.numbers import MarkingInts


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


def value(text: str | None) -> struct_pb2.Value | None:
    """JSON text as a proto value; None stays None. Numbers become doubles."""
    if text is None:
        return None
    return parsed_value(text, mark=False)[0]


def parsed_value(text: str, *, mark: bool) -> tuple[struct_pb2.Value, bool]:
    """JSON text as a proto value, and whether it holds integers from 2**53 on.

    Args:
        mark: whether such an integer becomes its mark, see `kernel.numbers`, and not a double.
    """
    integers = MarkingInts(mark=mark)
    result = struct_pb2.Value()
    json_format.ParseDict(json.loads(text, parse_int=integers), result)
    return result, integers.found
