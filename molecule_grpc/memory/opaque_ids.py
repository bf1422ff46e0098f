"""Ids of memories that another store made, which need not be UUIDs."""

from __future__ import annotations

import re
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.ids import as_id

MOST_ID_CHARS: Final = 256
# Printed between blanks and brackets, so it has none.
_ID: Final = re.compile(rf"(?!\.\.?\Z)[!-Z\\^-~]{{1,{MOST_ID_CHARS}}}", re.ASCII)


class OpaqueId(UUID):
    """An id that is no UUID, in a place that takes UUIDs: its text is the id as the store made it.

    Its bits are a hash of the text, so that no row of the built-in store has them.
    """

    __slots__ = ("text",)
    text: str

    def __init__(self, text: str) -> None:
        super().__init__(int=uuid5(NAMESPACE_URL, f"memory:{text}").int)
        object.__setattr__(self, "text", text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"OpaqueId({self.text!r})"


def memory_id(text: str, field: str = "memory_id") -> UUID:
    """The id of a memory from its text: a UUID, or an `OpaqueId`.

    Raises:
        Invalid: the text is empty, longer than 256 characters, `.` or `..`, or holds anything but
            letters, digits and signs of ASCII other than brackets.
    """
    found = as_id(text)
    if found is not None:
        return found
    if _ID.fullmatch(text) is None:
        raise Invalid(f"{field} must be the id of a memory", field=field)
    return OpaqueId(text)
