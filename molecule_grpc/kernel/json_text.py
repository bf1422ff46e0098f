"""JSON on its way into Postgres: what can be stored and read back, as text."""

from __future__ import annotations

import json
import sys

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.text import broken_text, clean, path_to

# Parsers of protobuf give up at 100 nested messages, and an object in an object takes three. A
# deeper body would make every page that holds the row unreadable.
MAX_DEPTH = 24

# Postgres cannot store these in jsonb.
_NUL = "\\u0000"
_SURROGATE = "\\ud"


def to_text(body: object, field: str, *, repair: bool = False) -> str:
    """JSON text that Postgres takes as jsonb: without NUL.

    Args:
        repair: whether lone surrogates are replaced instead of refused, as in answers of agents.

    Raises:
        Invalid: it is nested too deeply, or holds a number beyond any double, or a lone
            surrogate; names the part of `field`.
    """
    _require_readable(body, field)
    text = json.dumps(body, separators=(",", ":"))
    if _SURROGATE in text and not repair and (where := broken_text(body, field)):
        raise Invalid(f"{where} holds a lone surrogate, half of a character", field=where)
    if _NUL in text or (repair and _SURROGATE in text):
        text = json.dumps(_cleaned(body), separators=(",", ":"))
    return text


def _require_readable(body: object, field: str) -> None:
    level, depth = [body], 0
    while level:
        if depth > MAX_DEPTH:
            raise Invalid(f"the JSON is nested deeper than {MAX_DEPTH} levels", field=field)
        below: list[object] = []
        for part in level:
            if isinstance(part, dict):
                below.extend(part.values())
            elif isinstance(part, list):
                below.extend(part)
            elif _is_out_of_range(part):
                where = path_to(_is_out_of_range, body, field) or field
                raise Invalid(f"{where} is a number out of range", field=where)
        level = below
        depth += 1


def _fits(number: float) -> bool:
    """Whether a reader that knows doubles alone can hold the number; False for NaN."""
    return abs(number) <= sys.float_info.max


def _is_out_of_range(part: object) -> bool:
    return isinstance(part, (int, float)) and not _fits(part)


def _cleaned(body: object) -> object:
    if isinstance(body, str):
        return clean(body)
    if isinstance(body, list):
        return [_cleaned(part) for part in body]
    if isinstance(body, dict):
        return {clean(key): _cleaned(part) for key, part in body.items()}
    return body
