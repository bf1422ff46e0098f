"""How much two texts share, by runs of five characters, and hits that are shown once."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from molecule_grpc.kernel.slices import Slices

T = TypeVar("T")

_RUN: Final = 5
# Longer texts are compared by their beginnings.
_MOST_LETTERS: Final = 4000
# From so much shared wording on, two hits say the same: a changed number or name stays below.
SAME_WORDING: Final = 0.95
# Runs of a sample, the share of it that nearly the same texts have in common, and full comparisons.
_SAMPLE: Final = 32
_SAMPLE_SHARE: Final = 0.7
_COMPARED: Final = 3


def shared_wording(one: frozenset[Any], other: frozenset[Any]) -> float:
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


class _Sketch:
    """What tells quickly whether a text may be nearly the same as another."""

    __slots__ = ("runs", "sample")

    def __init__(self, text: str) -> None:
        self.runs = runs(text)
        # The same few runs of both texts, whichever these are: a sample of what they share.
        self.sample = frozenset(heapq.nsmallest(_SAMPLE, map(hash, self.runs)))

    def may_be(self, other: _Sketch) -> bool:
        """Whether comparing the texts is worth the while."""
        sizes = len(self.runs), len(other.runs)
        # Sets that differ by a twentieth cannot share nineteen.
        if min(sizes) < SAME_WORDING * max(sizes):
            return False
        return shared_wording(self.sample, other.sample) >= _SAMPLE_SHARE


async def grouped(
    hits: Sequence[T], text: Callable[[T], str], limit: int
) -> tuple[list[Group[T]], int]:
    """The first groups of hits in order, at most `limit`, and how many hits they take up.

    A hit is compared with at most 3 groups that may be nearly the same, in slices.
    """
    groups: list[Group[T]] = []
    known: list[_Sketch] = []
    slices = Slices()
    for taken, hit in enumerate(hits):
        if slices.due:
            await slices.rest()
        own = _Sketch(text(hit))
        if slices.due:
            await slices.rest()
        group = _same(own, groups, known)
        if group is not None:
            group.others.append(hit)
        elif len(groups) == limit:
            return groups, taken
        else:
            groups.append(Group(hit, []))
            known.append(own)
    return groups, len(hits)


def _same(own: _Sketch, groups: list[Group[T]], known: list[_Sketch]) -> Group[T] | None:
    compared = 0
    for group, other in zip(groups, known, strict=True):
        if compared < _COMPARED and own.may_be(other):
            compared += 1
            if shared_wording(own.runs, other.runs) >= SAME_WORDING:
                return group
    return None
