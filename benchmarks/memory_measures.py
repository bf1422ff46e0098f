"""How good rankings are, and whether one is better than another by more than chance."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

DEPTH = 10
_DRAWS = 4000
_SEED = 20261128


class Quality(NamedTuple):
    """Means over queries that have one right answer each, 0 to 1."""

    recall_1: float
    recall_5: float
    mrr: float
    ndcg: float

    def __str__(self) -> str:
        return "  ".join(f"{value:.3f}" for value in self)


def place(ranking: Sequence[int], answer: int) -> int | None:
    """Where the answer stands among the first ten, from 1; None if it does not."""
    try:
        return list(ranking[:DEPTH]).index(answer) + 1
    except ValueError:
        return None


def quality(places: Sequence[int | None]) -> Quality:
    """The measures, from the places of the answers."""
    count = max(1, len(places))
    found = [each for each in places if each is not None]
    return Quality(
        sum(each == 1 for each in found) / count,
        sum(each <= 5 for each in found) / count,
        sum(1 / each for each in found) / count,
        sum(1 / math.log2(each + 1) for each in found) / count,
    )


class Interval(NamedTuple):
    """A mean difference, and between what the draws of nineteen out of twenty lie."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"

    @property
    def better(self) -> bool:
        """Whether the interval lies above zero."""
        return self.low > 0


def gain(ours: Sequence[int | None], theirs: Sequence[int | None]) -> Interval:
    """How much more MRR the same queries have, by a paired bootstrap of 4,000 draws."""
    differences = [_reciprocal(a) - _reciprocal(b) for a, b in zip(ours, theirs, strict=True)]
    draw = random.Random(_SEED)
    count = len(differences)
    means = sorted(sum(draw.choices(differences, k=count)) / count for _ in range(_DRAWS))
    return Interval(
        sum(differences) / count, means[int(_DRAWS * 0.025)], means[int(_DRAWS * 0.975)]
    )


def _reciprocal(at: int | None) -> float:
    return 0.0 if at is None else 1 / at


def fused_by_rank(*legs: Sequence[int], k: int = 60) -> list[int]:
    """Reciprocal rank fusion of rankings with equal weights."""
    scores: dict[int, float] = {}
    for leg in legs:
        for rank, each in enumerate(leg, 1):
            scores[each] = scores.get(each, 0.0) + 1 / (k + rank)
    return ordered(scores)


def fused_by_score(
    cosines: Mapping[int, float], words: Mapping[int, float], weight: float
) -> list[int]:
    """Cosine plus so many times the share of what the words could reach."""
    every = {**cosines, **words}
    return ordered({n: cosines.get(n, 0.0) + weight * words.get(n, 0.0) for n in every})


def ordered(scores: Mapping[int, float]) -> list[int]:
    """Best first; equals in the order of their numbers."""
    return sorted(scores, key=lambda each: (-scores[each], each))
