"""Decisions about templates that need nothing but what stands in them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

from molecule_grpc.templates.values import Requirement, Requirements

_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,127}")
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BREAK: Final = re.compile(r"[\r\n\u2028\u2029\x85\x0b\x0c]+")
_ENTRY: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]{0,127})\s*=\s*(.*)")
_QUOTED: Final = re.compile(r"""(?:"([^"]*)"|'([^']*)')\s*(?:#.*)?""")
# Turn the direction of writing, so that a name reads as another.
_TURNS: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def folded(text: str) -> str:
    """A text on one line: each line break, with the blanks around it, becomes a blank."""
    # Split, then strip: a pattern with the blanks in front of a break takes time in the square of
    # their number, and holds all threads of the process meanwhile.
    lines = (line.strip() for line in _BREAK.split(text))
    return " ".join(line for line in lines if line).replace("\t", " ")


def legible(text: str) -> bool:
    """Whether a folded text holds neither control characters nor signs that turn its direction."""
    return not any(each in _TURNS or unicodedata.category(each) == "Cc" for each in text)


def expanded(text: str, values: Mapping[str, str]) -> str | None:
    """A text with each `${NAME}` replaced; None where a name has no value."""
    missing = False

    def value(found: re.Match[str]) -> str:
        nonlocal missing
        known = values.get(found[1], "")
        missing = missing or not known
        return known

    replaced = _REFERENCE.sub(value, text)
    return None if missing else replaced


def env_entries(text: str) -> dict[str, str]:
    """Names and values of a `.env` file; empty values, comments and other lines are left out."""
    entries = {}
    for line in text.splitlines():
        found = _ENTRY.fullmatch(line.strip())
        if found is None:
            continue
        value = found[2]
        if (quoted := _QUOTED.fullmatch(value)) is not None:
            value = quoted[1] if quoted[1] is not None else quoted[2]
        else:
            value = re.split(r"\s#", value)[0].strip()
        if value:
            entries[found[1]] = value
    return entries


def chosen_plugins(defaults: Iterable[str], own: Iterable[str]) -> tuple[str, ...]:
    """Plugins of the defaults, then of the workspace, each once; `!name` or `-name` removes one."""
    chosen: dict[str, None] = {}
    for name in (*defaults, *own):
        if name[:1] in ("!", "-"):
            chosen.pop(name[1:], None)
        else:
            chosen[name] = None
    return tuple(chosen)


def requirement(entry: object) -> Requirement | None:
    """What an entry of `required_env` asks for; None where no valid name is left of the entry."""
    if isinstance(entry, str):
        names = [entry]
    elif isinstance(entry, Mapping) and isinstance(entry.get("any_of"), list):
        names = [each for each in entry["any_of"] if isinstance(each, str)]
    else:
        return None
    valid = sorted({name for name in names if _VARIABLE.fullmatch(name)})
    return Requirement(tuple(valid)) if valid else None


def union(required: Iterable[Requirement], recommended: Iterable[Requirement]) -> Requirements:
    """Everything that is needed, once: singles first, then groups, by name.

    What is required is not recommended as well, and a group is left out where one of its names is
    needed anyway.
    """
    needed, wished = set(required), set(recommended)
    wished -= needed
    strict = _singles(needed)
    needed = {each for each in needed if not _absorbed(each, strict)}
    strict |= _singles(wished)
    wished = {each for each in wished if not _absorbed(each, strict)}
    return Requirements(required=_sorted(needed), recommended=_sorted(wished))


def missing(requirements: Iterable[Requirement], known: frozenset[str]) -> tuple[Requirement, ...]:
    """The requirements of which no name is known."""
    return tuple(each for each in requirements if known.isdisjoint(each.names))


def _singles(requirements: set[Requirement]) -> set[str]:
    return {each.names[0] for each in requirements if len(each.names) == 1}


def _absorbed(each: Requirement, strict: set[str]) -> bool:
    return len(each.names) > 1 and not strict.isdisjoint(each.names)


def _sorted(requirements: set[Requirement]) -> tuple[Requirement, ...]:
    return tuple(sorted(requirements, key=lambda each: (len(each.names) > 1, each.names)))
