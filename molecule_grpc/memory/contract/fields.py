"""Checks of single fields of the contract, which both sides of the wire run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from molecule_grpc.kernel.text import path_to
from molecule_grpc.memory.contract.times import as_time

_NAMESPACE: Final = re.compile(r"[a-z]+:[A-Za-z0-9_:.-]+", re.ASCII)
_MOST_NAME_CHARS: Final = 256
_MOST_QUERY_BYTES: Final = 65_536
# Numbers of single precision, whose squares are numbers, too.
_LARGEST: Final = 1e18
_SMALLEST: Final = 1e-18
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class ContractInvalid(ValueError):
    """An object breaks a rule of the contract; the message says which."""


def namespace(name: object) -> str:
    """The name of a namespace. Raises `ContractInvalid`."""
    if not isinstance(name, str) or not name:
        raise ContractInvalid("namespace is required")
    if len(name) > _MOST_NAME_CHARS:
        raise ContractInvalid(f"namespace is longer than {_MOST_NAME_CHARS} characters")
    if not _NAMESPACE.fullmatch(name):
        raise ContractInvalid(
            "namespace must be lowercase letters, a colon, and then letters, digits, _ : . or -"
        )
    return name


def mapping(data: object, what: str) -> Mapping[str, Any]:
    """A JSON object. Raises `ContractInvalid`."""
    if not isinstance(data, dict):
        raise ContractInvalid(f"{what} must be an object")
    return data


def _sound(value: str, name: str) -> str:
    if "\x00" in value or _LONE_SURROGATE.search(value):
        raise ContractInvalid(f"{name} holds a NUL or a lone surrogate")
    return value


def text(body: Mapping[str, Any], name: str) -> str:
    """A text that is not empty. Raises `ContractInvalid`."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ContractInvalid(f"{name} is required, and a text")
    return _sound(value, name)


def optional_text(body: Mapping[str, Any], name: str) -> str:
    """A text, empty if absent. Raises `ContractInvalid`."""
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value.encode(errors="replace")) > _MOST_QUERY_BYTES:
        raise ContractInvalid(f"{name} must be a text of at most {_MOST_QUERY_BYTES} bytes")
    return _sound(value, name)


def content(body: Mapping[str, Any], most: int) -> str:
    """The text of a memory. Raises `ContractInvalid`."""
    value = body.get("content")
    if not isinstance(value, str) or not value.strip():
        raise ContractInvalid("content is required")
    _sound(value, "content")
    if len(value.encode()) > most:
        raise ContractInvalid(f"content is longer than {most} bytes")
    return value


def texts(value: object, name: str) -> list[str]:
    """A list of texts. Raises `ContractInvalid`."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ContractInvalid(f"{name} must be a list")
    if not all(isinstance(each, str) for each in value):
        raise ContractInvalid(f"{name} must hold texts only")
    return list(value)


def choice(
    body: Mapping[str, Any], name: str, allowed: Sequence[str], *, default: str | None = None
) -> str:
    """One of some texts. Raises `ContractInvalid`."""
    value = body.get(name)
    if value in (None, "") and default is not None:
        return default
    if value not in allowed:
        raise ContractInvalid(f"{name} must be one of {', '.join(allowed)}")
    return str(value)


def flag(body: Mapping[str, Any], name: str) -> bool:
    """A truth value, false if absent. Raises `ContractInvalid`."""
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise ContractInvalid(f"{name} must be true or false")
    return bool(value)


def whole(body: Mapping[str, Any], name: str, default: int) -> int:
    """A whole number. Raises `ContractInvalid`."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise ContractInvalid(f"{name} must be a whole number")
    return value


def optional_number(body: Mapping[str, Any], name: str) -> float | None:
    """A finite number. Raises `ContractInvalid`."""
    value = body.get(name)
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        number = math.inf
    if isinstance(value, bool) or not math.isfinite(number):
        raise ContractInvalid(f"{name} must be a finite number")
    return number


def optional_uuid(body: Mapping[str, Any], name: str) -> str | None:
    """A UUID in its usual spelling. Raises `ContractInvalid`."""
    value = body.get(name)
    if value in (None, ""):
        return None
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError):
        raise ContractInvalid(f"{name} must be a UUID") from None


def optional_time(body: Mapping[str, Any], name: str) -> datetime | None:
    """A time. Raises `ContractInvalid`."""
    value = body.get(name)
    if value is None:
        return None
    try:
        return as_time(value)
    except (ValueError, TypeError):
        raise ContractInvalid(f"{name} must be an RFC 3339 time with an offset") from None


def optional_object(
    body: Mapping[str, Any], name: str, most_bytes: int | None = None
) -> Mapping[str, Any] | None:
    """A JSON object. Raises `ContractInvalid`."""
    value = body.get(name)
    if value is None:
        return None
    found = mapping(value, name)
    try:
        place, size = path_to(_is_unfit, found), len(json.dumps(found))
    except RecursionError:
        raise ContractInvalid(f"{name} is nested too deep") from None
    if place is not None:
        raise ContractInvalid(f"{name} holds a NUL, a lone surrogate or no finite number: {place}")
    if most_bytes is not None and size > most_bytes:
        raise ContractInvalid(f"{name} is longer than {most_bytes} bytes")
    return found


def optional_vector(body: Mapping[str, Any], name: str, most: int) -> list[float] | None:
    """A vector. Raises `ContractInvalid`."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise ContractInvalid(f"{name} must have 1 to {most} numbers")
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in value):
        raise ContractInvalid(f"{name} must hold numbers only")
    if not all(abs(each) <= _LARGEST for each in value):
        raise ContractInvalid(f"{name} must hold finite numbers of single precision only")
    if not any(abs(each) >= _SMALLEST for each in value):
        raise ContractInvalid(f"{name} must not be zero: it has no direction")
    return [float(each) for each in value]


def _is_unfit(part: object) -> bool:
    """Whether a store of JSON may refuse a part."""
    if isinstance(part, float):
        return not math.isfinite(part)
    return isinstance(part, str) and ("\x00" in part or bool(_LONE_SURROGATE.search(part)))
