"""Whether a query is one identifier, which is looked for letter by letter before all else."""

from __future__ import annotations

import re
from typing import Final

_MOST_LETTERS: Final = 200
_TOKEN: Final = re.compile(r"[\w.:/@#$+\-]+", re.ASCII)
# An underscore, an inner capital, an inner dot, colon or slash, or letters together with digits.
_MARKS: Final = (
    re.compile(r"\w_\w|^_+\w|\w_+$", re.ASCII),
    re.compile(r"[a-z][A-Z]|[A-Z]{2,}[a-z]"),
    re.compile(r"\w[.:/@]+\w", re.ASCII),
    re.compile(r"[A-Za-z]-?\d|\d[A-Za-z]"),
)
_QUOTES: Final = "`'\""


def identifier(text: str) -> str:
    """The query without quotes if it is an identifier of up to 200 characters; else empty."""
    token = text.strip().strip(_QUOTES)
    if len(token) > _MOST_LETTERS or not _TOKEN.fullmatch(token):
        return ""
    return token if any(mark.search(token) for mark in _MARKS) else ""
