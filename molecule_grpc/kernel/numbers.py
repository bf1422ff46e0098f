"""Long integers, from 2**53 on, on their way through google.protobuf.Value.

A Value holds every number as a double, which changes most of them. Over REST a long integer travels
inside of a Value as its mark: a text of a NUL and the digits, which the edge (`envoy/face.lua`)
makes of the number and back. No text in Postgres holds NUL, so that no text that is read from there
can be mistaken for a mark.
"""

from __future__ import annotations

import re
from typing import Any

# The edge takes a response that has this header for one whose long integers are marked.
MARKED = "x-marked-integers"

_LONG = 2**53
_LONG_DIGITS = 16
# An integer of more than 400 digits is larger than any double: readers of JSON may refuse it.
_MARK = re.compile(r"\x00(-?[0-9]{16,400})")


class MarkingInts:
    """For `json.loads(…, parse_int=…)`: notes whether a long integer came.

    Args:
        mark: whether to return a long integer as its mark, and not as the double nearest to it.
    """

    def __init__(self, *, mark: bool) -> None:
        self._mark = mark
        self.found = False

    def __call__(self, digits: str) -> int | float | str:
        if len(digits) < _LONG_DIGITS or abs(number := int(digits)) < _LONG:
            return int(digits)
        self.found = True
        return f"\x00{digits}" if self._mark else float(number)


def marked_integer(part: object) -> int | None:
    """The integer that the edge has marked; None if the part is no mark."""
    mark = _MARK.fullmatch(part) if isinstance(part, str) else None
    return int(mark[1]) if mark else None


def unmarked(body: Any) -> Any:
    """JSON-like data with the integers that the edge has marked."""
    if isinstance(body, dict):
        return {key: unmarked(each) for key, each in body.items()}
    if isinstance(body, list):
        return [unmarked(each) for each in body]
    number = marked_integer(body)
    return body if number is None else number
