"""The calls that are open in this process: who has left, what is late, when all have ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from molecule_grpc.kernel.errors import Unavailable
from molecule_grpc.server.hosts.envoy.exchange import Exchange
from molecule_grpc.server.status import CallFailure, render, render_late

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
    ended: bool = False

    def end(self, failure: CallFailure) -> None:
        """Let the call end with this failure. Its handler is cancelled once, and may clean up."""
        if not self.ended:
            self.ended = True
            self.exchange.ending = failure
            self.task.cancel()

    def abandon(self) -> None:
        """End a call whose client has left."""
        if not self.ended:
            self.ended = True
            self.task.cancel()


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

    @contextlib.contextmanager
    def heard_out(self, exchange: Exchange) -> Iterator[None]:
        """End the current task's call when its client leaves without an end of its body.

        Most bodies have ended by now: then `run` asks whether the client is there.
        """
        if exchange.arrived:
            yield
            return
        call = self._calls[exchange]

        async def listen() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await exchange.rest()
            if exchange.left:
                call.abandon()

        listening = asyncio.create_task(listen())
        try:
            yield
        finally:
            listening.cancel()

    async def run(self) -> None:
        """Look after the calls until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            for call in list(self._calls.values()):
                if call.exchange.ends_at is not None and now >= call.exchange.ends_at:
                    call.end(_late(call.exchange))
                elif call.exchange.arrived and now >= call.look_at:
                    call.look_at = now + _pause(now - call.began)
                    await self._look(call)

    async def _look(self, call: _OpenCall) -> None:
        await call.exchange.look()
        if call.exchange.left and call.exchange in self._calls:
            call.abandon()

    async def ended(self) -> None:
        """Wait until no call is open."""
        while self._calls:
            self._none.clear()
            await self._none.wait()

    def cancel(self) -> None:
        """End all calls that are open."""
        for call in self._calls.values():
            call.end(render(Unavailable("the server stops", reason="DRAINING")))

    def __len__(self) -> int:
        return len(self._calls)


def _late(exchange: Exchange) -> CallFailure:
    if exchange.limited:
        return render(Unavailable("the call took too long", reason="DEADLINE_EXCEEDED"))
    return render_late()


def _pause(age: float) -> float:
    return min(_LONGEST_SECONDS, max(_FIRST_LOOK_SECONDS, age * _GROWTH))
