"""The `.env` of Claude Code's channel: parallel lists of workspaces and their tokens."""

from __future__ import annotations

import re
from typing import Final

from molecule_grpc.cli.connecting.entry import CannotEdit, Entry

_URL: Final = "MOLECULE_PLATFORM_URL"
_IDS: Final = "MOLECULE_WORKSPACE_IDS"
_TOKENS: Final = "MOLECULE_WORKSPACE_TOKENS"


def with_watched_workspace(text: str, entry: Entry) -> str:
    """The text with the workspace in its lists; other workspaces and other lines stay.

    Raises:
        CannotEdit: the lists are of different lengths, or belong to another platform.
    """
    ids, tokens = _list(text, _IDS), _list(text, _TOKENS)
    if len(ids) != len(tokens):
        raise CannotEdit(f"{_IDS} and {_TOKENS} have different lengths")
    others = [each for each in ids if each != entry.workspace_id]
    if others and _value(text, _URL) not in (None, entry.platform_url):
        raise CannotEdit(f"it watches workspaces of {_value(text, _URL)}")
    watched = dict(zip(ids, tokens, strict=True)) | {entry.workspace_id: entry.token}
    for name, value in (
        (_URL, entry.platform_url),
        (_IDS, ",".join(watched)),
        (_TOKENS, ",".join(watched.values())),
    ):
        text = _set(text, name, value)
    return text


def _value(text: str, name: str) -> str | None:
    found = re.search(rf"^{name}=(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def _list(text: str, name: str) -> list[str]:
    return [each.strip() for each in (_value(text, name) or "").split(",") if each.strip()]


def _set(text: str, name: str, value: str) -> str:
    line = f"{name}={value}"
    pattern = rf"^{name}=.*$"
    changed, count = re.subn(pattern, lambda _: line, text, count=1, flags=re.MULTILINE)
    if count:
        return changed
    return text + ("" if not text or text.endswith("\n") else "\n") + line + "\n"
