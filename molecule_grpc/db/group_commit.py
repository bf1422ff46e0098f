"""Batches concurrent calls into one flush at a time, and gives every caller its own outcome."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from molecule_grpc.db.pool import Fault, fault
from molecule_grpc.kernel.errors import Exhausted, Unavailable

In = TypeVar("In")
Out = TypeVar("Out")

# From this share of one core on, measured every 250 ms, the process counts as short of CPU.
_BUSY_SHARE = 0.75
_MEASURE_SECONDS = 0.25
# A batch that lost a deadlock is repeated so often. On a starved machine the loser may come back
# before the winner has the lock that it has given up.
_MOST_RACES = 3
# Stop lingering after 4 ms without a new call.
_PAUSE_SECONDS = 0.004
# After a flush that was smaller than the expected size, expect 5 % less of the next one.
_EXPECTED_DECAY = 0.95

_log = structlog.get_logger(__name__)


class _Processor:
    """How much of a core this process has used since the last measurement, 250 ms ago or more."""

    def __init__(self) -> None:
        self._at, self._used = time.monotonic(), time.process_time()
        self._share = 0.0

    def busy(self) -> bool:
        """Whether this process is short of CPU."""
        now = time.monotonic()
        if (elapsed := now - self._at) >= _MEASURE_SECONDS:
            used = time.process_time()
            self._share = (used - self._used) / elapsed
            self._at, self._used = now, used
        return self._share >= _BUSY_SHARE


_processor = _Processor()


class QueueFull(Exhausted):
    """More calls are waiting than the server will hold. Nothing was done; retry after a pause."""

    default_reason = "QUEUE_FULL"


class Stopped(Unavailable):
    """The server is shutting down. The call was not flushed, or its outcome is unknown."""

    default_reason = "DRAINING"


@dataclass(slots=True, eq=False)
class _Call(Generic[In, Out]):
    item: In
    key: Hashable
    outcome: asyncio.Future[Out]


class GroupCommit(Generic[In, Out]):
    """Turns many concurrent calls into few statements: writes or reads alike.

    A flush takes every call that queued up while the previous flush was in flight. Without `linger`
    there is no timer: a lone caller is served at once, and batches grow with the load.

    Args:
        name: for logs and the worker task.
        flush: runs one batch and returns one outcome per item, in the same order. An outcome
            that is an `Exception` is raised to that caller alone. Never called concurrently.
            A flush that raises had no effect: the batch is split in halves, down to the items that
            fail by themselves. A lost race (deadlock, serialization, unique violation) repeats the
            whole batch once before that. An outage is not retried: every caller gets it.
        key: calls with equal keys never share a flush, and are flushed in the order submitted.
        max_batch: the most items in one flush.
        max_queue: the most calls waiting, those in flight not counted.
        linger: seconds that a flush may wait, while the process is `busy` and calls keep coming,
            for as many calls as the last flushes had. Where CPU is short, a flush that starts at
            once serves one or two calls: fewer and fuller flushes answer everybody sooner. A lone
            caller waits only right after flushes of many.
        busy: whether the process is short of CPU.
        after_flush: called with the items and outcomes that succeeded, those of cancelled
            callers included, before any caller resumes. Must be quick.
        observe: called once per batch with its size, how many of it failed, and its seconds.

    One bad item in a batch of n costs about 2 log2(n) more flushes, n bad items cost 2n: refuse an
    item that is wrong on its face before submitting it.
    """

    def __init__(
        self,
        name: str,
        flush: Callable[[Sequence[In]], Awaitable[Sequence[Out | Exception]]],
        *,
        key: Callable[[In], Hashable] | None = None,
        max_batch: int = 512,
        max_queue: int = 20_000,
        linger: float = 0.0,
        busy: Callable[[], bool] | None = None,
        after_flush: Callable[[Sequence[tuple[In, Out]]], None] | None = None,
        observe: Callable[[int, int, float], None] | None = None,
    ) -> None:
        self.name = name
        self._flush = flush
        self._key = key
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._linger = linger
        self._busy = busy or _processor.busy
        self._after_flush = after_flush
        self._observe = observe

        self._ready: deque[_Call[In, Out]] = deque()
        self._in_flight: list[_Call[In, Out]] = []
        # Of each key present in `_ready`: the calls that wait until that call is taken, if any.
        self._behind: dict[Hashable, deque[_Call[In, Out]] | None] = {}
        self._waiting = 0

        self._wake = asyncio.Event()
        self._wanted = 1
        self._stopping = False
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Calls queued and not yet in flight."""
        return self._waiting

    async def start(self) -> None:
        """Begin to flush, the calls submitted before `start` first."""
        if self._worker is None and not self._stopping:
            self._worker = asyncio.create_task(self._run(), name=f"group-commit-{self.name}")

    async def stop(self) -> None:
        """Refuse new calls, flush the queued ones, return when all have their outcome.

        Cancelling `stop` (a shutdown deadline) leaves the flushes running.
        """
        self._stopping = True
        self._wake.set()
        if self._worker is None:
            self._abandon()
        else:
            await asyncio.wait({self._worker})

    async def submit(self, item: In) -> Out:
        """Return this item's outcome once its flush is done.

        A caller cancelled while queued is left out; once in flight, its item is still flushed.
        Raises `QueueFull`, `Stopped`, this item's own error, or the error of the whole flush.
        """
        if self._stopping:
            raise Stopped("the server is shutting down, try again")
        if self._waiting >= self._max_queue:
            raise QueueFull("too many calls are waiting, try again shortly")
        key = self._key(item) if self._key else None
        call: _Call[In, Out] = _Call(item, key, asyncio.get_running_loop().create_future())
        self._enqueue(call)
        return await call.outcome

    def _enqueue(self, call: _Call[In, Out]) -> None:
        if not self._key:
            self._ready.append(call)
        elif call.key not in self._behind:
            self._behind[call.key] = None
            self._ready.append(call)
        else:
            behind = self._behind[call.key]
            if behind is None:
                behind = self._behind[call.key] = deque()
            behind.append(call)
        self._waiting += 1
        if self._waiting >= self._wanted:
            self._wake.set()

    def _take(self) -> list[_Call[In, Out]]:
        """The next batch, oldest first. Calls behind its keys become ready for the batch after."""
        size = min(len(self._ready), self._max_batch)
        calls = [self._ready.popleft() for _ in range(size)]
        self._waiting -= size
        if self._key:
            for call in calls:
                self._release(call.key)
        return [call for call in calls if not call.outcome.cancelled()]

    def _release(self, key: Hashable) -> None:
        behind = self._behind.pop(key)
        if behind:
            self._ready.append(behind.popleft())
            self._behind[key] = behind or None

    async def _run(self) -> None:
        expected = 0
        try:
            while await self._arrival():
                if self._linger and self._busy():
                    await self._gather(min(expected, self._max_batch))
                self._in_flight = self._take()
                if self._in_flight:
                    await self._serve(self._in_flight)
                expected = max(
                    len(self._in_flight) + self._waiting, int(expected * _EXPECTED_DECAY)
                )
        finally:
            self._stopping = True
            self._abandon()

    async def _arrival(self) -> bool:
        """Wait for a call; False when stopped and no call is left."""
        while not self._ready and not self._stopping:
            self._wake.clear()
            await self._wake.wait()
        return bool(self._ready)

    async def _gather(self, expected: int) -> None:
        """Wait up to `linger` for this many calls, while at least one comes every 4 ms."""
        until = time.monotonic() + self._linger
        self._wanted, seen = expected, 0
        while seen < self._waiting < expected and not self._stopping and time.monotonic() < until:
            seen = self._waiting
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_PAUSE_SECONDS, self._linger)):
                    await self._wake.wait()
        self._wanted = 1

    async def _serve(self, batch: list[_Call[In, Out]]) -> None:
        started = time.perf_counter()
        failed = await self._settle(batch)
        if self._observe:
            with self._logged("observe"):
                self._observe(len(batch), failed, time.perf_counter() - started)

    async def _settle(self, batch: list[_Call[In, Out]]) -> int:
        """Flush a batch, in pieces if need be, until each call has its outcome; count failures."""
        pieces, failed, races = [batch], 0, 0
        while pieces:
            piece = pieces.pop()
            try:
                outcomes = await self._flush([call.item for call in piece])
            except Exception as exc:  # noqa: BLE001  (each error belongs to a caller)
                blame = fault(exc)
                if blame is Fault.OUTAGE:
                    return failed + sum(_fail(rest, exc) for rest in (piece, *pieces))
                if blame is Fault.RACE and races < _MOST_RACES:
                    races += 1
                    pieces.append(piece)
                elif len(piece) == 1:
                    failed += _fail(piece, exc)
                else:
                    half = len(piece) // 2
                    pieces += piece[half:], piece[:half]
            else:
                failed += self._deliver(piece, outcomes)
        return failed

    def _deliver(self, piece: list[_Call[In, Out]], outcomes: Sequence[Out | Exception]) -> int:
        """Answer the callers of a flush that went through; count those who get an error."""
        if len(outcomes) != len(piece):
            # The flush may have taken effect: do not repeat it.
            wrong = f"{self.name}: {len(outcomes)} outcomes for {len(piece)} items"
            return _fail(piece, RuntimeError(wrong))
        done: list[tuple[In, Out]] = []
        for call, outcome in zip(piece, outcomes, strict=True):
            if isinstance(outcome, Exception):
                _fail([call], outcome)
                continue
            done.append((call.item, outcome))
            if not call.outcome.done():
                call.outcome.set_result(outcome)
        if self._after_flush and done:
            with self._logged("after_flush"):
                self._after_flush(done)
        return len(piece) - len(done)

    @contextlib.contextmanager
    def _logged(self, hook: str) -> Iterator[None]:
        try:
            yield
        except Exception:  # noqa: BLE001  (no error of a hook ends the worker)
            _log.exception("group commit hook failed", name=self.name, hook=hook)

    def _abandon(self) -> None:
        """Fail the calls that are left after the worker has ended."""
        behind = (call for calls in self._behind.values() if calls for call in calls)
        _fail([*self._in_flight, *self._ready, *behind], Stopped("the server has shut down"))


def _fail(calls: Sequence[_Call[In, Out]], exc: Exception) -> int:
    for call in calls:
        if not call.outcome.done():
            call.outcome.set_exception(exc)
    return len(calls)
