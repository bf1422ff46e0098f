"""Writes the messages of a stream on any host, and gives up a client that does not read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable

import structlog

from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.server.unread import Unread

log = structlog.get_logger(__name__)

# A write that lasts 0.1 s has waited for the client, not for this process.
_BLOCKED_SECONDS = 0.1
_SETTLE_SECONDS = 1.0
# Of a client that was given up, and reads again: nobody else waits for the end of its stream.
_LAST_SETTLE_SECONDS = 3.0


class StreamWriter:
    """Writes the messages of one stream, and ends it when its client does not read.

    One task writes. One timer serves all its writes; `close` must follow the last one.

    Args:
        write: hands a message to the transport, and returns when that has taken it. Raises
            CancelledError when the client has left.
        unread: counts the bytes that the client has not taken, and may end the stream for them.
        write_seconds: a write that lasts longer ends the stream with SLOW_CONSUMER.
        rpc: the method, for the log.
    """

    __slots__ = (
        "_began",
        "_blocked_until",
        "_ending",
        "_responses",
        "_rpc",
        "_timer",
        "_unread",
        "_write",
        "_write_seconds",
        "_writing",
    )

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        responses: AsyncGenerator[bytes, None],
        unread: Unread,
        write_seconds: float,
        *,
        rpc: str,
    ) -> None:
        self._write = write
        self._responses = responses
        self._unread = unread
        self._write_seconds = write_seconds
        self._rpc = rpc
        self._blocked_until = -math.inf
        self._began = -math.inf
        self._ending: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing = False

    async def write(self, data: bytes) -> None:
        """Return when the transport has taken the message.

        Raises:
            CallFailure: the stream was ended meanwhile.
            asyncio.CancelledError: the client left.
        """
        loop = asyncio.get_running_loop()
        began = self._began = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._write_seconds, self._look)
        self._writing = True
        try:
            with self._unread.writing(len(data), self._give_up):
                await self._write(data)
        finally:
            self._writing = False
        now = loop.time()
        if now - began >= _BLOCKED_SECONDS:
            self._blocked_until = now
        if self._ending is not None:
            await self._ending

    async def settle(self) -> None:
        """Before the status of a call whose client may still send: let the edge pass on the rest.

        Envoy 1.39 ends such a call with RST_STREAM INTERNAL_ERROR, and drops what it holds, when
        the status arrives while the client's window is exhausted. A client that blocked a write
        has begun to read when the write ends: 1 s later its window is open, or 3 s where it had
        not read for as long as a write may take.
        """
        seconds = _SETTLE_SECONDS if self._ending is None else _LAST_SETTLE_SECONDS
        rest = self._blocked_until + seconds - asyncio.get_running_loop().time()
        if rest > 0:
            await asyncio.sleep(rest)

    def close(self) -> None:
        """The stream has ended: nothing is written any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Give the client up, or look again when the write of this moment is due."""
        self._timer = None
        if not self._writing:
            return
        loop = asyncio.get_running_loop()
        left = self._began + self._write_seconds - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look)
        else:
            self._give_up()

    def _give_up(self) -> None:
        # The handler ends now, so that what the stream held is free for others. The write stays
        # until the client reads, which then reads the status, or the edge resets the call: neither
        # transport frees a message when its write is cancelled, and the status would be lost.
        if self._ending is not None:
            return
        log.warning("slow consumer", rpc=self._rpc)
        self._ending = asyncio.get_running_loop().create_task(self._end())
        # Nobody awaits the end when the client leaves first.
        self._ending.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _end(self) -> None:
        await self._responses.athrow(Exhausted("the client does not read", reason="SLOW_CONSUMER"))
