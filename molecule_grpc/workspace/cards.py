"""Agents' cards: any JSON, checked so that Postgres stores it and every reader can take it."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.numbers import marked_integer
from molecule_grpc.kernel.text import clean, path_to

MAX_CARD_BYTES: Final = 256 * 1024
MAX_CARD_LEVELS: Final = 32
_FIELD: Final = "agent_card"


def card_text(card: Any) -> str:
    """A card as JSON text.

    Args:
        card: what `json.loads` could have returned.

    Raises:
        Invalid: more than 32 levels, a number that JSON has no word for, or an integer that a
            double would change; or, as BODY_TOO_LARGE, more than 256 KiB of text.
    """
    if where := path_to(_is_rounded, card, _FIELD):
        raise Invalid(f"{where} is an integer that no double holds: send a string", field=where)
    text = json.dumps(_checked(card, MAX_CARD_LEVELS), separators=(",", ":"))
    if len(text) > MAX_CARD_BYTES:
        raise Invalid(
            f"agent_card must not be larger than {MAX_CARD_BYTES} bytes",
            field=_FIELD,
            reason="BODY_TOO_LARGE",
            metadata={"max": str(MAX_CARD_BYTES)},
        )
    return text


def _checked(part: Any, levels: int) -> Any:
    if levels < 0:
        # One level more in a list of workspaces, and its readers could not parse the list.
        raise Invalid(
            f"agent_card must not be nested deeper than {MAX_CARD_LEVELS} levels", field=_FIELD
        )
    if isinstance(part, dict):
        return {clean(key): _checked(each, levels - 1) for key, each in part.items()}
    if isinstance(part, list):
        return [_checked(each, levels - 1) for each in part]
    if (number := marked_integer(part)) is not None:
        return float(number)
    if isinstance(part, str):
        return clean(part)
    return _number(part) if isinstance(part, float) else part


def _is_rounded(part: object) -> bool:
    """Whether a number is one that readers of a card, who know doubles, would see changed."""
    number = marked_integer(part)
    try:
        return number is not None and int(float(number)) != number
    except OverflowError:
        return True


def _number(number: float) -> float | int:
    """Whole numbers as integers, exact below 2**53; -0.0 as 0, since jsonb has no negative zero."""
    if not math.isfinite(number):
        raise Invalid("agent_card must not contain numbers that JSON lacks", field=_FIELD)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
