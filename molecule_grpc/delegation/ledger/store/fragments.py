"""Pieces of SQL that several statements of the ledger share."""

from __future__ import annotations

from typing import Final

# Whether a workspace `w` is called at a URL; anything else reads its inbox.
PUSHED: Final = (
    "coalesce(w.delivery_mode, CASE w.runtime WHEN 'external' THEN 'poll' ELSE 'push' END) = 'push'"
)


def cut(text: str, limit: int) -> str:
    """SQL for at most `limit` characters of a text, the last of them `…` where something is cut."""
    return (
        f"CASE WHEN length({text}) > {limit} THEN left({text}, {limit - 1}) || '…' ELSE {text} END"
    )
