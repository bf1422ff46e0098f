"""What an agent prints, as frames for a client that may be slow."""

from __future__ import annotations

import asyncio
import codecs
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

from molecule_grpc.backends.access.ahead import Ahead
from molecule_grpc.backends.access.targets import Target, Targets, closing
from molecule_grpc.backends.contract.entering import LogChunk
from molecule_grpc.backends.contract.failures import WorkloadMissing
from molecule_grpc.backends.contract.names import Capability
from molecule_grpc.kernel.budget import Budget
from molecule_grpc.kernel.metered import charged
from molecule_grpc.kernel.payer import OPERATOR_PAYS, payer
from molecule_grpc.server.streams import StreamGuard

_FRAME_BYTES: Final = 64 * 1024
_RECONNECT_MS: Final = 5000
# While the organisation's clients do not read, a stream waits so long before it looks again.
CROWDED_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Printed:
    """What was printed next. `place` is behind it, for the next stream."""

    text: str
    place: int


@dataclass(frozen=True, slots=True)
class Beat:
    """The stream is open, or still is."""


@dataclass(frozen=True, slots=True)
class Drain:
    """The client must come back."""

    reconnect_after_ms: int


Frame: TypeAlias = Printed | Beat | Drain
# What is kept of a workspace's earlier workloads, oldest first.
Kept: TypeAlias = Callable[[UUID], Awaitable[list[LogChunk]]]


class LogStreams:
    """Opens streams of what agents print.

    Args:
        kept: what is kept of workloads that were removed.
        budget: what reaches into workspaces at once.
    """

    def __init__(self, targets: Targets, kept: Kept, budget: Budget) -> None:
        self._targets = targets
        self._kept = kept
        self._budget = budget

    async def watch(
        self, workspace_id: UUID, *, tail: int, follow: bool, after: int, guard: StreamGuard
    ) -> AsyncGenerator[Frame, None]:
        """The frames of one stream. Refusals come before the first.

        Args:
            tail: only so many last lines at the beginning; 0 for all.
            after: a place of an earlier stream; 0 for the beginning.

        Raises:
            MoleculeError: as `Targets.find`, and what the backend says.
            Unavailable: DRAINING.
        """
        target = await self._targets.find(workspace_id, Capability.LOGS)
        kept = [each for each in await self._kept(workspace_id) if each.offset > after]
        with self._budget.use(1, **(payer.get() or OPERATOR_PAYS).keys):
            chunks = _printed(target, kept, after=after, follow=follow, tail=tail)
            ahead = Ahead[LogChunk](lambda chunk: len(chunk.data), guard.wake)
            reading = asyncio.create_task(charged(ahead.fill(chunks)))
            try:
                async for frame in _frames(Lines(ahead, after), ahead, guard, greet=follow):
                    yield frame
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


async def _printed(
    target: Target, kept: Sequence[LogChunk], *, after: int, follow: bool, tail: int
) -> AsyncGenerator[LogChunk, None]:
    """The kept output of earlier workloads, then the output of the present workload.

    The last lines are those of the present workload, and of earlier ones where there is none.
    """
    place = after
    if not tail:
        for chunk in kept:
            place = chunk.offset
            yield chunk
    present = target.backend.logs(target.resource, since=place, follow=follow, tail=tail)
    try:
        async with closing(present) as chunks:
            async for chunk in chunks:
                yield chunk
    except WorkloadMissing:
        if not kept:
            raise
        for chunk in kept[-tail:] if tail else ():
            yield chunk


async def _frames(
    lines: Lines, ahead: Ahead[LogChunk], guard: StreamGuard, *, greet: bool
) -> AsyncGenerator[Frame, None]:
    while True:
        guard.check()
        while not guard.crowded and (printed := lines.take()) is not None:
            greet = False
            guard.spoke()
            yield printed
        if ahead.over:
            return
        if greet and ahead.opened:
            # A client that follows a silent agent learns from a beat that the stream is open.
            greet = False
            guard.spoke()
            yield Beat()
        if guard.over:
            yield Drain(int(asyncio.get_running_loop().time() * 1000) % _RECONNECT_MS)
            raise guard.drained_error()
        if guard.beat_due():
            yield Beat()
        await guard.wait(CROWDED_SECONDS if guard.crowded else math.inf)


class Lines:
    """Joins lines into frames.

    Args:
        after: where the client is.
    """

    def __init__(self, ahead: Ahead[LogChunk], after: int) -> None:
        self._ahead = ahead
        self._place = after
        # A character may be cut by the engine's limit of 16 KiB for a piece of a line.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def take(self) -> Printed | None:
        """The next part; None when nothing was read. Raises as `Ahead.pop`."""
        taken: list[bytes] = []
        size = 0
        while size < _FRAME_BYTES and (chunk := self._next(first=not taken)) is not None:
            taken.append(chunk.data)
            size += len(chunk.data)
            # Pieces of one line have one place, which only the last piece leaves behind.
            if chunk.data.endswith(b"\n"):
                self._place = chunk.offset
        if not taken:
            return None
        return Printed(self._decoder.decode(b"".join(taken)), self._place)

    def _next(self, *, first: bool) -> LogChunk | None:
        """The next line; an error of the engine is raised only where nothing waits to be sent."""
        return self._ahead.pop() if first or self._ahead.waiting else None
