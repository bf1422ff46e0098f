"""How much two texts share, by runs of five characters, and hits that are shown once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

_RUN: Final = 5
# Longer texts are compared by their beginnings.
_MOST_LETTERS: Final = 4000
# From so much shared wording on, two hits say the same: a changed number or name stays below.
SAME_WORDING: Final = 0.95


def shared_wording(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard's share of two texts' runs, 0 to 1."""
    if not one or not other:
        return float(one == other)
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def runs(text: str) -> frozenset[str]:
    """The runs of five characters of a text's first 4,000, without regard to case and blanks."""
    plain = " ".join(text[:_MOST_LETTERS].lower().split())
    if len(plain) < _RUN:
        return frozenset([plain]) if plain else frozenset()
    return frozenset(plain[at : at + _RUN] for at in range(len(plain) - _RUN + 1))


class Group(NamedTuple, Generic[T]):
    """A hit that is shown, and those with nearly the same text behind it."""

    shown: T
    others: list[T]


def grouped(hits: Sequence[T], text: Callable[[T], str], limit: int) -> tuple[list[Group[T]], int]:
    """The first groups of hits in order, at most `limit`, and how many hits they take up."""
    groups: list[Group[T]] = []
    known: list[frozenset[str]] = []
    for taken, hit in enumerate(hits):
        own = runs(text(hit))
        for group, other in zip(groups, known, strict=True):
            # Sizes first: sets that differ by a twentieth cannot share nineteen.
            if min(len(own), len(other)) < SAME_WORDING * max(len(own), len(other)):
                continue
            if shared_wording(own, other) >= SAME_WORDING:
                group.others.append(hit)
                break
        else:
            if len(groups) == limit:
                return groups, taken
            groups.append(Group(hit, []))
            known.append(own)
    return groups, len(hits)
