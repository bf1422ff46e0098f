"""Long work on the event loop in slices of 1 ms, so that other calls run in between."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from typing import TypeVar
from weakref import WeakKeyDictionary

from molecule_grpc.kernel.payer import payer

Row = TypeVar("Row")
T = TypeVar("T")

_SLICE_SECONDS = 0.001


class Slices:
    """Cuts one piece of work: `await rest()` after each small part for which `due` is true."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = time.perf_counter() + _SLICE_SECONDS

    @property
    def due(self) -> bool:
        """Whether the slice is over."""
        return time.perf_counter() >= self._until

    async def rest(self) -> None:
        """Let the loop turn, and return when the next slice may begin."""
        await _line().turn()
        self._until = time.perf_counter() + _SLICE_SECONDS

    async def each(self, parts: Iterable[T]) -> AsyncIterator[T]:
        """Parts that are made when they are asked for, in slices."""
        for part in parts:
            yield part
            if self.due:
                await self.rest()


async def in_slices(convert: Callable[[Row], T], rows: Iterable[Row]) -> list[T]:
    """What `convert` makes of each row, in slices."""
    return [made async for made in Slices().each(map(convert, rows))]


class _Line:
    """Lets one slice run in each turn of the loop; organisations take turns."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    async def turn(self) -> None:
        who = payer.get()
        organization = who.organization if who else None
        turn = self._loop.create_future()
        if not self._waiting:
            self._loop.call_soon(self._next)
        self._waiting.setdefault(organization, deque()).append(turn)
        await turn

    def _next(self) -> None:
        organization, turns = self._waiting.popitem(last=False)
        turn = turns.popleft()
        if turns:
            self._waiting[organization] = turns
        if not turn.done():  # else its call was cancelled
            turn.set_result(None)
        # After the slice has run and joined the line again, so that its turn is not passed over.
        if self._waiting:
            self._loop.call_soon(self._next)


_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()


def _line() -> _Line:
    loop = asyncio.get_running_loop()
    line = _lines.get(loop)
    if line is None:
        line = _lines[loop] = _Line(loop)
    return line
