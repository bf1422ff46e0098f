"""The calls that are open in this process: who has left, what is late, when all have ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from molecule_grpc.server.hosts.envoy.exchange import Exchange

_LOOK_SECONDS = 0.25
# Envoy tells nobody that a client has left after its request had ended: one has to ask. A call is
# asked after a second, then each time that its age has grown by a quarter, at least once in 15 s.
_FIRST_LOOK_SECONDS = 1.0
_GROWTH = 0.25
_LONGEST_SECONDS = 15.0


@dataclass(slots=True, eq=False)
class _OpenCall:
    task: asyncio.Task[None]
    exchange: Exchange
    began: float
    look_at: float


class OpenCalls:
    """Keeps the tasks of calls, and ends those whose client has left or whose deadline has passed.

    Envoy's module holds no reference to the task that it starts for a request. One that waits for
    something that only its own frame refers to, such as a connection's reader, would be collected.
    """

    def __init__(self) -> None:
        self._calls: dict[Exchange, _OpenCall] = {}
        self._kept: set[asyncio.Task[None]] = set()
        self._none = asyncio.Event()

    @contextlib.contextmanager
    def open(self, exchange: Exchange) -> Iterator[None]:
        """A call that the current task serves, while inside."""
        task = asyncio.current_task()
        assert task is not None
        now = time.monotonic()
        self._calls[exchange] = _OpenCall(task, exchange, now, now + _FIRST_LOOK_SECONDS)
        try:
            yield
        finally:
            del self._calls[exchange]
            if not self._calls:
                self._none.set()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the current task alive, while inside: Envoy's module holds no reference to it."""
        task = asyncio.current_task()
        assert task is not None
        self._kept.add(task)
        try:
            yield
        finally:
            self._kept.discard(task)

    async def run(self) -> None:
        """Look after the calls until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            for call in list(self._calls.values()):
                if call.exchange.ends_at is not None and now >= call.exchange.ends_at:
                    call.task.cancel()
                elif call.exchange.arrived and now >= call.look_at:
                    call.look_at = now + _pause(now - call.began)
                    await self._look(call)

    async def _look(self, call: _OpenCall) -> None:
        await call.exchange.look()
        if call.exchange.left and call.exchange in self._calls:
            call.task.cancel()

    async def ended(self) -> None:
        """Wait until no call is open."""
        while self._calls:
            self._none.clear()
            await self._none.wait()

    def cancel(self) -> None:
        """End all calls that are open."""
        for call in self._calls.values():
            call.task.cancel()

    def __len__(self) -> int:
        return len(self._calls)


def _pause(age: float) -> float:
    return min(_LONGEST_SECONDS, max(_FIRST_LOOK_SECONDS, age * _GROWTH))
