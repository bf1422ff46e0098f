"""Budgets: how much of something may be in use at once, in all and by each of its users."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping

from molecule_grpc.kernel.errors import Exhausted

# The dimension that every use counts in.
WORKER = "worker"


class Budget:
    """Counts what is in use in this worker, against a limit for each dimension.

    Args:
        name: what is counted, as the caller shall read it: "calls to agents".
        limits: the most in use by one key of a dimension, such as `organization` or `target`.
            `worker` bounds all of it together.
    """

    def __init__(self, name: str, limits: Mapping[str, int]) -> None:
        self.name = name
        self._limits = dict(limits)
        self._used: Counter[tuple[str, Hashable]] = Counter()

    @property
    def used(self) -> int:
        """What is in use now, by everybody."""
        return self._used[WORKER, None]

    def room(self, **keys: Hashable) -> int:
        """How much more may be taken for these keys now."""
        return min(
            limit - self._used[dimension, _key(dimension, keys)]
            for dimension, limit in self._limits.items()
            if dimension == WORKER or dimension in keys
        )

    def take(self, amount: int = 1, **keys: Hashable) -> None:
        """Count something as used; `give_back` must follow.

        Raises:
            Exhausted: RESOURCE_EXHAUSTED: a limit would be exceeded; nothing is counted then.
        """
        for dimension, limit in self._limits.items():
            if dimension != WORKER and dimension not in keys:
                continue
            if self._used[dimension, _key(dimension, keys)] + amount > limit:
                raise Exhausted(
                    f"too many {self.name} at once, try again later",
                    metadata={"limit": str(limit), "of": dimension},
                    retry_after=1,
                )
        self._count(amount, keys)

    def give_back(self, amount: int = 1, **keys: Hashable) -> None:
        """Something taken with the same arguments is not in use any more."""
        self._count(-amount, keys)

    @contextlib.contextmanager
    def use(self, amount: int = 1, **keys: Hashable) -> Iterator[None]:
        """Something is in use while inside. Raises as `take`."""
        self.take(amount, **keys)
        try:
            yield
        finally:
            self.give_back(amount, **keys)

    def _count(self, amount: int, keys: Mapping[str, Hashable]) -> None:
        for dimension in (WORKER, *keys):
            key = (dimension, _key(dimension, keys))
            self._used[key] += amount
            if self._used[key] <= 0:
                del self._used[key]


def _key(dimension: str, keys: Mapping[str, Hashable]) -> Hashable:
    return None if dimension == WORKER else keys[dimension]
