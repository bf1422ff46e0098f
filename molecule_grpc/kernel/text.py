"""Text on its way into Postgres: repaired, and cut on a character boundary."""

from __future__ import annotations

import re
from collections.abc import Callable

PREVIEW_BYTES = 4096
RESULT_BYTES = 1_048_576

# What Python holds a half of a character as: a surrogate that JSON escapes gave no partner.
_LONE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Text that Postgres takes: without NUL, lone surrogates replaced."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    return text


def broken_text(body: object, where: str = "") -> str | None:
    """The path of a text in parsed JSON that holds a lone surrogate; None when all are whole.

    Args:
        where: the path of `body` itself.
    """
    return path_to(_is_broken, body, where)


def path_to(wrong: Callable[[object], bool], body: object, where: str = "") -> str | None:
    """The path of the first part of parsed JSON that is wrong; None when none is.

    Args:
        wrong: tells of a text, a number, true, false or null; of names in objects, too.
        where: the path of `body` itself.
    """
    found = None
    if isinstance(body, list):
        paths = (path_to(wrong, part, f"{where}[{n}]") for n, part in enumerate(body))
        found = next(filter(None, paths), None)
    elif isinstance(body, dict):
        if any(map(wrong, body)):
            return f"a name in {where or 'the body'}"
        dot = f"{where}." if where else ""
        paths = (path_to(wrong, part, f"{dot}{name}") for name, part in body.items())
        found = next(filter(None, paths), None)
    elif wrong(body):
        found = where
    return found


def _is_broken(part: object) -> bool:
    return isinstance(part, str) and _LONE.search(part) is not None


def cut_bytes(text: str, limit: int = PREVIEW_BYTES) -> str:
    """At most `limit` bytes of UTF-8, never splitting a character. No marker."""
    if len(text) * 4 <= limit:
        return text
    raw = text.encode()
    return text if len(raw) <= limit else raw[:limit].decode(errors="ignore")


def cut_chars(text: str, limit: int) -> str:
    """At most `limit` characters, the last of them an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
