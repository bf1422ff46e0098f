"""Everything in a worker that lasts: which calls are open, when each must end, how it says so."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import TypeVar

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.db.pool import translate
from molecule_grpc.db.wakeups import Flag
from molecule_grpc.kernel.budget import Budget
from molecule_grpc.kernel.errors import MoleculeError, Unauthenticated, Unavailable
from molecule_grpc.kernel.payer import OPERATOR_PAYS, payer
from molecule_grpc.server.call import Call
from molecule_grpc.server.status import CallFailure, render
from molecule_grpc.server.unread import Unread
from molecule_grpc.settings.inbox import InboxSettings

Frame = TypeVar("Frame")
T = TypeVar("T")


class OpenStreams:
    """Everything in this worker that lasts: streams, long polls, waits, uploads under way."""

    def __init__(self) -> None:
        self._flags: set[Flag] = set()
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop."""
        return self._draining

    @contextlib.contextmanager
    def attend(self, flag: Flag) -> Iterator[None]:
        """Set the flag when the server is about to stop, while inside."""
        self._flags.add(flag)
        try:
            yield
        finally:
            self._flags.discard(flag)

    def drain(self) -> None:
        """The server is about to stop: wake everything that lasts."""
        self._draining = True
        for flag in self._flags:
            flag.set()

    def __len__(self) -> int:
        return len(self._flags)


class StreamGuard:
    """Watches one long call for a revoked token, the age limit, a drain, and the next beat.

    A turn of a stream: `check`, then its own news, then `over`, `beat_due` and `wait`. A call that
    takes messages in: `receive` until there is none left, then `check` before the commit. A call
    that waits for others: `interruptible`.
    """

    __slots__ = (
        "_beat",
        "_flag",
        "_interrupts",
        "_old_at",
        "_organization",
        "_revoked",
        "_spoke_at",
        "_streams",
        "_unread",
    )

    def __init__(
        self, flag: Flag, streams: OpenStreams, unread: Unread, *, beat: float, max_age: float
    ) -> None:
        self._flag = flag
        self._streams = streams
        self._unread = unread
        self._organization = (payer.get() or OPERATOR_PAYS).organization
        self._revoked = False
        self._interrupts: set[asyncio.Timeout] = set()
        self._beat = beat
        self._spoke_at = time.monotonic()
        self._old_at = self._spoke_at + max_age

    def check(self) -> None:
        """Begin a turn: news that comes from here on ends the next `wait` at once.

        Raises:
            Unauthenticated: the token was revoked.
        """
        self._flag.clear()
        if self._revoked:
            raise self.revoked_error()

    def clear(self) -> None:
        """Begin a turn like `check`, for a caller that looks at `revoked` itself."""
        self._flag.clear()

    def wake(self) -> None:
        """There is news for this call: end its `wait`."""
        self._flag.set()

    @property
    def revoked(self) -> bool:
        """Whether the token was revoked: raise `revoked_error`."""
        return self._revoked

    def revoked_error(self) -> Unauthenticated:
        """How a call ends whose token was revoked."""
        return Unauthenticated("the token was revoked")

    def revoke(self) -> None:
        """The token was revoked: wake the call, which ends at its next `check`."""
        self._revoked = True
        self._flag.set()
        for interrupt in self._interrupts:
            if not interrupt.expired():
                interrupt.reschedule(0)

    @contextlib.asynccontextmanager
    async def interruptible(self, timeout: float | None = None) -> AsyncIterator[None]:
        """A revocation cancels what is awaited inside; a drain does not. Blocks may be nested.

        Raises:
            Unauthenticated: the token was revoked.
            TimeoutError: it took longer than `timeout` seconds.
        """
        self.check()
        interrupt = asyncio.timeout(timeout)
        try:
            async with interrupt:
                self._interrupts.add(interrupt)
                yield
        except TimeoutError:
            if self._revoked:
                raise self.revoked_error() from None
            raise
        finally:
            self._interrupts.discard(interrupt)

    async def receive(self, messages: AsyncIterator[T], timeout: float) -> T | None:
        """The client's next message; None after the last one. A drain does not end the wait.

        Raises:
            Unauthenticated: the token was revoked.
            TimeoutError: none came within `timeout` seconds.
        """
        async with self.interruptible(timeout):
            return await anext(messages, None)

    async def each(self, pieces: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        """The pieces of what is sent to the client, until the token is revoked.

        Raises:
            Unauthenticated: the token was revoked.
        """
        while True:
            async with self.interruptible():
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece

    def spoke(self) -> None:
        """The client has just been sent something: the next beat is due a whole period later."""
        self._spoke_at = time.monotonic()

    @property
    def crowded(self) -> bool:
        """Whether to send nothing large now: clients of this organisation do not read."""
        return self._unread.crowds(self._organization)

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop."""
        return self._streams.draining

    @property
    def over(self) -> bool:
        """Whether the client must come back elsewhere: raise `drained_error`."""
        return self._streams.draining or time.monotonic() > self._old_at

    def drained_error(self) -> Unavailable:
        """How a stream ends that is over."""
        return Unavailable("the stream is drained, reconnect", reason="DRAINING")

    def beat_due(self) -> bool:
        """Whether the client was sent nothing for a beat's period; then the beat counts as sent."""
        due = time.monotonic() - self._spoke_at >= self._beat
        if due:
            self.spoke()
        return due

    async def wait(self, look: float = math.inf) -> bool:
        """Wait for news, a beat that is due, or `look` seconds; whether there is news.

        It takes at least 10 ms unless there is news.
        """
        left = self._beat - (time.monotonic() - self._spoke_at)
        return await self._flag.wait(max(0.01, min(left, look)))


class StreamGuards:
    """Makes the guards of this worker's streams and long polls.

    Args:
        budget: counts what is open, by payer.
        unread: what clients of streams have not taken.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        streams: OpenStreams,
        settings: InboxSettings,
        *,
        budget: Budget,
        unread: Unread,
    ) -> None:
        self._budget = budget
        self._unread = unread
        self._authenticator = authenticator
        self._streams = streams
        self._beat = settings.beat
        self._max_age = settings.max_age

    @contextlib.contextmanager
    def watch(self, flag: Flag, call: Call) -> Iterator[StreamGuard]:
        """Watch over the stream that this call opens, while inside; the flag is its news."""
        with self.watch_token(flag, call.authorization) as guard:
            yield guard

    @contextlib.contextmanager
    def watch_token(
        self, flag: Flag, authorization: str | None, *, beats: bool = True
    ) -> Iterator[StreamGuard]:
        """Watch over a stream by the header that its caller sent, while inside.

        Args:
            beats: False for a long poll, whose client hears nothing before the answer.

        Raises:
            Exhausted: RESOURCE_EXHAUSTED: the caller has too many of them open.
        """
        beat = self._beat if beats else math.inf
        guard = StreamGuard(flag, self._streams, self._unread, beat=beat, max_age=self._max_age)
        with (
            self._budget.use(1, **(payer.get() or OPERATOR_PAYS).keys),
            self._authenticator.watch(authorization, guard.revoke),
            self._streams.attend(flag),
        ):
            yield guard


async def with_end(
    frames: AsyncGenerator[Frame, None],
    end: Callable[[CallFailure], Frame],
    *,
    opened: bool = False,
) -> AsyncGenerator[Frame, None]:
    """A stream's frames; when the server ends the stream with an error, `end` makes the last one.

    The error follows the last frame. An error before the first frame refuses the call, without an
    end frame, unless the stream counts as `opened`. A bug has no end frame.
    """
    try:
        async with contextlib.aclosing(frames):
            async for frame in frames:
                opened = True
                yield frame
    except Exception as error:
        known = error if isinstance(error, MoleculeError) else translate(error)
        if known is None or not opened:
            raise
        yield end(render(known))
        raise known from error
