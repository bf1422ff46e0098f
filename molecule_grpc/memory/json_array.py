"""A JSON array of objects as it arrives, in pieces that may be cut anywhere."""

from __future__ import annotations

import codecs
import json
from typing import Any, Final

from molecule_grpc.kernel.errors import Invalid

MAX_ELEMENT_CHARS: Final = 512 * 1024
_BLANKS: Final = " \t\r\n"


class ArrayReader:
    """Takes pieces and gives the objects that are whole. Holds one unfinished object at most."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._decoder = json.JSONDecoder()
        self._rest = ""
        self._expected = "["

    def feed(self, piece: bytes) -> list[dict[str, Any]]:
        """The objects that end in this piece.

        Raises:
            Invalid: this is no JSON array of objects, or one exceeds 512 Ki characters.
        """
        try:
            self._rest += self._text.decode(piece)
        except UnicodeDecodeError:
            raise _malformed() from None
        found: list[dict[str, Any]] = []
        while (rest := self._rest.lstrip(_BLANKS)) and self._step(rest, found):
            pass
        if len(self._rest) > MAX_ELEMENT_CHARS:
            raise Invalid(f"an element exceeds {MAX_ELEMENT_CHARS} characters", field="body")
        return found

    def end(self) -> None:
        """Raise `Invalid` unless the array is over."""
        if self._expected != "end" or self._rest.strip(_BLANKS):
            raise _malformed()

    def _step(self, rest: str, found: list[dict[str, Any]]) -> bool:
        """Take one sign or object; False when more must arrive first."""
        first = rest[0]
        if self._expected == "[" and first == "[":
            self._rest, self._expected = rest[1:], "first"
        elif self._expected in ("first", ",") and first == "]":
            self._rest, self._expected = rest[1:], "end"
        elif self._expected == "," and first == ",":
            self._rest, self._expected = rest[1:], "next"
        elif self._expected in ("first", "next") and first == "{":
            try:
                element, length = self._decoder.raw_decode(rest)
            except RecursionError:
                raise _malformed() from None
            except ValueError:
                self._rest = rest
                return False
            found.append(element)
            self._rest, self._expected = rest[length:], ","
        else:
            raise _malformed()
        return True


def _malformed() -> Invalid:
    return Invalid("the body is no JSON array of objects", field="body")
