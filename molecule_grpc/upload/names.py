"""File names and media types on their way in and out: cleaned, and quoted for headers."""

from __future__ import annotations

import re
import urllib.parse

MAX_NAME_CHARS = 100
OCTET_STREAM = "application/octet-stream"

_MAX_EXTENSION_CHARS = 16
_MAX_MEDIA_TYPE_CHARS = 255
_FOREIGN = re.compile(r"[^A-Za-z0-9._-]")
_MEDIA_TYPE = re.compile(r"[!-.0-~]+/[!-.0-~]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def clean_name(name: str) -> str:
    """The name that a file is stored under: 1 to 100 characters of letters, digits, `._-`."""
    whole = name.rstrip("/")
    last = whole.rpartition("/")[2] if whole else name[:1]
    plain = _shortened(_FOREIGN.sub("_", last))
    return "file" if plain in ("", ".", "..") else plain


def _shortened(name: str) -> str:
    """At most 100 characters, the extension kept unless it is a long one."""
    if len(name) <= MAX_NAME_CHARS:
        return name
    dot = name.rfind(".")
    extension = name[dot:] if dot >= 0 else ""
    if len(extension) > _MAX_EXTENSION_CHARS:
        extension = ""
    stem = name[: len(name) - len(extension)]
    return stem[: MAX_NAME_CHARS - len(extension)] + extension


def clean_media_type(text: str) -> str:
    """A media type without parameters; octet-stream when malformed, empty when empty."""
    plain = text.partition(";")[0].strip(" \t")
    if not plain:
        return ""
    fits = len(plain) <= _MAX_MEDIA_TYPE_CHARS and _MEDIA_TYPE.fullmatch(plain)
    return plain if fits else OCTET_STREAM


def content_disposition(name: str) -> str:
    """A Content-Disposition that makes browsers save the file under this name, not show it."""
    text = _CONTROL.sub("", name)
    quoted = text.encode("ascii", "replace").decode().replace("\\", "\\\\").replace('"', '\\"')
    encoded = urllib.parse.quote(text.encode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{quoted}\"; filename*=UTF-8''{encoded}"
