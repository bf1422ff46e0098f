"""How much two texts share, by runs of five characters, and hits that are shown once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from molecule_grpc.kernel.slices import Slices

T = TypeVar("T")

_RUN: Final = 5
# Longer texts are compared by their beginnings.
_MOST_LETTERS: Final = 4000
# From so much shared wording on, two hits say the same: a changed number or name stays below.
SAME_WORDING: Final = 0.95
# What nearly the same texts have at least: of the longer one's length, and of both one's words.
_LENGTHS: Final = 0.8
_SHARED_WORDS: Final = 0.6
_FEW_WORDS: Final = 12
# Groups that a hit is compared with letter by letter.
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


class _Text:
    """A text that others are compared with; what a comparison needs is made when it is needed."""

    __slots__ = ("_runs", "_text", "words")

    def __init__(self, text: str) -> None:
        self._text = text
        self._runs: frozenset[str] | None = None
        self.words = frozenset(text[:_MOST_LETTERS].lower().split())

    @property
    def runs(self) -> frozenset[str]:
        if self._runs is None:
            self._runs = runs(self._text)
        return self._runs

    def may_be(self, other: _Text) -> bool:
        """Whether comparing the texts letter by letter is worth the while."""
        lengths = len(self._text), len(other._text)
        if min(lengths) < _LENGTHS * max(lengths):
            return False
        # A text without blanks is one word, of which a changed letter makes another.
        few = min(len(self.words), len(other.words)) < _FEW_WORDS
        return few or shared_wording(self.words, other.words) >= _SHARED_WORDS


async def grouped(
    hits: Sequence[T], text: Callable[[T], str], limit: int
) -> tuple[list[Group[T]], int]:
    """The first groups of hits in order, at most `limit`, and how many hits they take up.

    A hit is compared with at most 3 groups that may be nearly the same, in slices.
    """
    groups: list[Group[T]] = []
    known: list[_Text] = []
    slices = Slices()
    for taken, hit in enumerate(hits):
        if slices.due:
            await slices.rest()
        own = _Text(text(hit))
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


def _same(own: _Text, groups: list[Group[T]], known: list[_Text]) -> Group[T] | None:
    compared = 0
    for group, other in zip(groups, known, strict=True):
        if compared < _COMPARED and own.may_be(other):
            compared += 1
            if shared_wording(own.runs, other.runs) >= SAME_WORDING:
                return group
    return None
