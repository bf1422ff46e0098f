"""Text on its way into Postgres: repaired, and cut on a character boundary."""

from __future__ import annotations

PREVIEW_BYTES = 4096
RESULT_BYTES = 1_048_576


def clean(text: str) -> str:
    """Text that Postgres takes: without NUL, lone surrogates replaced."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    return text


def cut_bytes(text: str, limit: int = PREVIEW_BYTES) -> str:
    """At most `limit` bytes of UTF-8, never splitting a character. No marker."""
    if len(text) * 4 <= limit:
        return text
    raw = text.encode()
    return text if len(raw) <= limit else raw[:limit].decode(errors="ignore")


def cut_chars(text: str, limit: int) -> str:
    """At most `limit` characters, the last of them an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
