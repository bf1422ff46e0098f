"""Long texts as overlapping windows, each of which gets a vector of its own."""

from __future__ import annotations

from typing import Final

MOST_WINDOWS: Final = 16
# In characters, for models whose tokens we do not see: about 200 tokens, 40 of them shared.
_WINDOW: Final = 900
_STEP: Final = 720
_WHOLE: Final = 1200
# In tokens.
_TOKEN_WINDOW: Final = 200
_TOKEN_STEP: Final = 160


def text_windows(text: str) -> list[str]:
    """At most 16 pieces of a text, the rest is left out; up to 1,200 characters are one piece."""
    if len(text) <= _WHOLE:
        return [text]
    return [text[begin : begin + _WINDOW] for begin in _begins(len(text), _WINDOW, _STEP)]


def token_windows(tokens: list[int], room: int) -> list[list[int]]:
    """At most 16 runs of a text's tokens; up to `room` tokens are one. The rest is left out."""
    if len(tokens) <= room:
        return [tokens]
    return [
        tokens[begin : begin + _TOKEN_WINDOW]
        for begin in _begins(len(tokens), _TOKEN_WINDOW, _TOKEN_STEP)
    ]


def _begins(length: int, window: int, step: int) -> range:
    """Where windows begin so that the last one reaches the end, or is the 16th."""
    count = -(-(length - window) // step) + 1
    return range(0, step * min(count, MOST_WINDOWS), step)
