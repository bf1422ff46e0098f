"""Budgets: how much of something may be in use at once, in all and by each of its users."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Hashable, Iterator, Mapping
from typing import NamedTuple

from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.kernel.payer import ORGANIZATION, TOKEN

# The dimension that every use counts in.
WORKER = "worker"


class Use(NamedTuple):
    """Where a budget stands for one key of one dimension."""

    dimension: str
    used: int
    limit: int


class Budget:
    """Counts what is in use in this worker, against a limit for each dimension.

    Args:
        name: what is counted, as the caller shall read it: "calls to agents".
        limits: the most in use by one key of a dimension, such as `organization` or `target`.
            `worker` bounds all of it together.

    Attributes:
        refused: how often a limit was met, by dimension.
    """

    def __init__(self, name: str, limits: Mapping[str, int]) -> None:
        self.name = name
        self.refused: Counter[str] = Counter()
        self._limits = dict(limits)
        self._used: Counter[tuple[str, Hashable]] = Counter()

    @property
    def used(self) -> int:
        """What is in use now, by everybody."""
        return self._used[WORKER, None]

    def uses(self, **keys: Hashable) -> list[Use]:
        """Where the budget stands for each of these keys that it bounds."""
        return [
            Use(dimension, self._used[dimension, keys[dimension]], limit)
            for dimension, limit in self._limits.items()
            if dimension in keys
        ]

    def room(self, **keys: Hashable) -> int:
        """How much more may be taken for these keys now."""
        return min(
            limit - self._used[dimension, _key(dimension, keys)]
            for dimension, limit in self._limits.items()
            if dimension == WORKER or dimension in keys
        )

    def full_keys(self, dimension: str) -> list[Hashable]:
        """The keys of a dimension for which nothing more may be taken now."""
        limit = self._limits[dimension]
        return [key for (of, key), used in self._used.items() if of == dimension and used >= limit]

    def take(self, amount: int = 1, **keys: Hashable) -> None:
        """Count something as used; `give_back` must follow.

        Raises:
            Exhausted: RESOURCE_EXHAUSTED: a limit would be exceeded; nothing is counted then.
        """
        for dimension, limit in self._limits.items():
            if dimension != WORKER and dimension not in keys:
                continue
            if self._used[dimension, _key(dimension, keys)] + amount > limit:
                raise self.refusal(dimension, **keys)
        self.count(amount, **keys)

    def give_back(self, amount: int = 1, **keys: Hashable) -> None:
        """Something taken with the same arguments is not in use any more."""
        self.count(-amount, **keys)

    @contextlib.contextmanager
    def use(self, amount: int = 1, **keys: Hashable) -> Iterator[None]:
        """Something is in use while inside. Raises as `take`."""
        self.take(amount, **keys)
        try:
            yield
        finally:
            self.give_back(amount, **keys)

    def count(self, amount: int, **keys: Hashable) -> None:
        """Count something as used, or as no longer used, whatever the limits say."""
        used = self._used
        for key in ((WORKER, None), *keys.items()):
            now = used.get(key, 0) + amount
            if now > 0:
                used[key] = now
            else:
                used.pop(key, None)

    def full(self, **keys: Hashable) -> str:
        """The first dimension without room for these keys; empty when there is room in all."""
        for dimension, limit in self._limits.items():
            if (dimension == WORKER or dimension in keys) and self._used[
                dimension, _key(dimension, keys)
            ] >= limit:
                return dimension
        return ""

    def refusal(self, dimension: str, **keys: Hashable) -> Exhausted:
        """What a caller reads who met the limit of this dimension. Counts the refusal."""
        self.refused[dimension] += 1
        limit = self._limits[dimension]
        key = _key(dimension, keys)
        return Exhausted(
            f"too many {self.name} at once, try again later",
            metadata={"budget": self.name, "limit": str(limit), "of": dimension},
            retry_after=1,
            quota=(
                dimension if key is None else f"{dimension}:{key}",
                f"{self.name} at once: {limit} for each {dimension}",
            ),
        )


class Turns:
    """Lets callers use a budget one after the other: who finds no room waits for a turn.

    Organisations are served in rotation, and so are the tokens of each: a caller waits for its own
    kind first. A budget that bounds neither is served in the order of arrival.

    Args:
        budget: counts what is in use.
        most_waiting: callers of one organisation that may wait; None for any number.
        patience: seconds after which a caller that waits is refused; None for never.
    """

    def __init__(self, budget: Budget, *, most_waiting: int | None, patience: float | None) -> None:
        self.budget = budget
        self._most_waiting = most_waiting
        self._patience = patience
        self._lines: OrderedDict[Hashable, _Line] = OrderedDict()

    @contextlib.asynccontextmanager
    async def turn(self, **keys: Hashable) -> AsyncIterator[None]:
        """Something is in use while inside.

        Raises:
            Exhausted: RESOURCE_EXHAUSTED: too many wait already, or none gave way in time.
        """
        await self.take(**keys)
        try:
            yield
        finally:
            self.give_back(**keys)

    async def take(self, **keys: Hashable) -> None:
        """Wait for a turn; `give_back` with the same keys must follow. Raises as `turn`."""
        line = self._lines.get(keys.get(ORGANIZATION))
        if line is None and not self.budget.full(**keys):
            self.budget.count(1, **keys)
            return
        if line is None:
            line = self._lines[keys.get(ORGANIZATION)] = _Line()
        elif self._most_waiting is not None and line.waiting >= self._most_waiting:
            raise self._refusal(keys)
        turn = line.join(keys)
        try:
            async with asyncio.timeout(self._patience):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                # The turn came in the same moment: somebody else may have it.
                self.give_back(**keys)
            else:
                line.leave(keys, turn)
                self._forget_empty(keys)
            if isinstance(error, TimeoutError):
                raise self._refusal(keys) from None
            raise

    def give_back(self, **keys: Hashable) -> None:
        """A turn is over: the next caller who finds room gets it."""
        self.budget.give_back(1, **keys)
        self.serve()

    @property
    def any_waiting(self) -> bool:
        """Whether anybody waits for a turn."""
        return bool(self._lines)

    def serve(self) -> bool:
        """Give a turn to the next caller who finds room; whether there was one."""
        for organization, line in self._lines.items():
            if line.serve(self.budget):
                self._lines.move_to_end(organization)
                self._forget_empty({ORGANIZATION: organization})
                return True
        return False

    def _forget_empty(self, keys: Mapping[str, Hashable]) -> None:
        line = self._lines.get(keys.get(ORGANIZATION))
        if line is not None and not line.waiting:
            del self._lines[keys.get(ORGANIZATION)]

    def _refusal(self, keys: Mapping[str, Hashable]) -> Exhausted:
        return self.budget.refusal(self.budget.full(**keys) or ORGANIZATION, **keys)


class _Line:
    """Waiting callers of an organisation, by token."""

    def __init__(self) -> None:
        self.waiting = 0
        self._keys: dict[Hashable, dict[str, Hashable]] = {}
        self._tokens: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    def join(self, keys: dict[str, Hashable]) -> asyncio.Future[None]:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        token = keys.get(TOKEN)
        self._keys[token] = keys
        self._tokens.setdefault(token, deque()).append(turn)
        self.waiting += 1
        return turn

    def leave(self, keys: Mapping[str, Hashable], turn: asyncio.Future[None]) -> None:
        token = keys.get(TOKEN)
        self._tokens[token].remove(turn)
        self._left(token)

    def serve(self, budget: Budget) -> bool:
        """Give a turn to one caller for whom there is room; whether there was one."""
        for token, turns in self._tokens.items():
            keys = self._keys[token]
            full = budget.full(**keys)
            if not full:
                # A cancelled caller keeps its place until its task runs.
                turn = next((each for each in turns if not each.done()), None)
                if turn is None:
                    continue
                budget.count(1, **keys)
                turns.remove(turn)
                turn.set_result(None)
                self._tokens.move_to_end(token)
                self._left(token)
                return True
            if full != TOKEN:
                return False
        return False

    def _left(self, token: Hashable) -> None:
        self.waiting -= 1
        if not self._tokens[token]:
            del self._tokens[token], self._keys[token]


def _key(dimension: str, keys: Mapping[str, Hashable]) -> Hashable:
    return None if dimension == WORKER else keys[dimension]
