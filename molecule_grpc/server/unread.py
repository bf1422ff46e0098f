"""What streams have been sent and their clients have not taken: how much of it, and whose."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from molecule_grpc.kernel.budget import Budget
from molecule_grpc.kernel.payer import OPERATOR_PAYS, ORGANIZATION, payer

# A write that lasts 1 s waits for its client. By then the edge's buffers of the stream are full:
# the stream window of its listener, 256 KiB, and that of its connection to the worker, 64 KiB.
_BLOCKED_SECONDS = 1.0
_EDGE_BYTES = 320 * 1024


@dataclass(slots=True, eq=False)
class _Write:
    """A message on its way to a client."""

    size: int
    began: float
    end: Callable[[], None]
    ended: bool = False


class Unread:
    """Counts the bytes on their way to clients, and ends the slowest streams of a payer over limit.

    Args:
        budget: bytes that may be on their way for one organisation.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._writes: dict[Hashable, dict[_Write, None]] = {}

    def writing(self, size: int, end: Callable[[], None]) -> AbstractContextManager[None]:
        """A message of `size` bytes is on its way to the client of this task's call, while inside.

        Args:
            end: ends the stream.
        """
        return _Writing(self._budget, self._writes, _Write(size, time.monotonic(), end))

    def crowds(self, organization: Hashable) -> bool:
        """Whether not to send this organisation more: its clients do not read."""
        return organization in self._writes and bool(self._budget.full(organization=organization))

    async def relieve(self) -> None:
        """End the streams that were blocked longest, of organisations that hold too much.

        A blocked stream counts with what the edge holds of it.
        """
        for organization, writes in list(self._writes.items()):
            [use] = self._budget.uses(**{ORGANIZATION: organization})
            blocked_before = time.monotonic() - _BLOCKED_SECONDS
            blocked = [each for each in writes if each.began < blocked_before and not each.ended]
            left = sum(each.size + _EDGE_BYTES for each in blocked)
            for write in blocked:
                if left <= use.limit:
                    break
                left -= write.size + _EDGE_BYTES
                write.ended = True
                self._budget.refused[ORGANIZATION] += 1
                write.end()


class _Writing(AbstractContextManager[None]):
    """Counts a write while inside. A class, entered for every frame of every stream."""

    __slots__ = ("_budget", "_organization", "_write", "_writes")

    def __init__(
        self, budget: Budget, writes: dict[Hashable, dict[_Write, None]], write: _Write
    ) -> None:
        self._budget = budget
        self._writes = writes
        self._write = write
        self._organization = (payer.get() or OPERATOR_PAYS).organization

    def __enter__(self) -> None:
        self._writes.setdefault(self._organization, {})[self._write] = None
        self._budget.count(self._write.size, organization=self._organization)

    def __exit__(self, *error: object) -> None:
        self._budget.count(-self._write.size, organization=self._organization)
        writes = self._writes[self._organization]
        del writes[self._write]
        if not writes:
            del self._writes[self._organization]
