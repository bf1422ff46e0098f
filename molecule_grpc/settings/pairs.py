"""Values that are pairs with commas between them, such as `langgraph=lt-1,*=lt-2`."""

from __future__ import annotations

from typing import TypeAlias

from molecule_grpc.settings.values import Kind

Pairs: TypeAlias = tuple[tuple[str, str], ...]


def _read(text: str) -> Pairs:
    pairs = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        name, separator, value = (part.strip() for part in word.partition("="))
        if not (name and separator and value):
            raise ValueError
        pairs.append((name, value))
    return tuple(pairs)


def _show(value: object) -> str:
    assert isinstance(value, tuple)
    return ",".join(f"{name}={value}" for name, value in value)


def pairs(of: str) -> Kind[Pairs]:
    """Pairs, in the order in which they are written; `of` names both halves: `runtime=image`."""
    return Kind(_read, f"pairs {of} with commas between them", _show)


def look_up(found: Pairs, name: str) -> str:
    """The value of the pair with this name, else of the pair `*`; empty where neither is there."""
    named = dict(found)
    return named.get(name) or named.get("*", "")
