"""What everything that lasts heeds beside its own news: its token, its age, silence, a drain."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.db.wakeups import Flag
from molecule_grpc.kernel.errors import Unauthenticated, Unavailable
from molecule_grpc.server.call import Call
from molecule_grpc.settings.inbox import InboxSettings

T = TypeVar("T")


class Streams(Protocol):
    """The open streams of this worker."""

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop."""
        ...

    def attend(self, flag: Flag) -> AbstractContextManager[None]:
        """Set the flag when the server is about to stop, while inside."""
        ...


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
    """Watches over one call that lasts.

    A turn of a stream: `check`, the news, `over`, `beat_due`, `wait`. A call that takes messages
    in: `receive` until there is none left, then `check` before the commit.
    """

    def __init__(self, flag: Flag, streams: Streams, *, beat: float, max_age: float) -> None:
        self._flag = flag
        self._streams = streams
        self._revoked = False
        self._receiving: asyncio.Timeout | None = None
        self._beat = beat
        self._spoke_at = time.monotonic()
        self._old_at = self._spoke_at + max_age

    def check(self) -> None:
        """Look at the news from here on: what comes later ends the rest.

        Raises:
            Unauthenticated: the token was revoked.
        """
        self._flag.clear()
        if self._revoked:
            raise Unauthenticated("the token was revoked")

    def revoke(self) -> None:
        """The token was revoked: wake the call, which ends at its next `check`."""
        self._revoked = True
        self._flag.set()
        if self._receiving is not None and not self._receiving.expired():
            self._receiving.reschedule(0)

    async def receive(self, messages: AsyncIterator[T], timeout: float) -> T | None:
        """The client's next message; None after the last one. A drain does not end the wait.

        Raises:
            Unauthenticated: the token was revoked.
            TimeoutError: none came within `timeout` seconds.
        """
        self.check()
        try:
            async with asyncio.timeout(timeout) as self._receiving:
                return await anext(messages, None)
        except TimeoutError:
            self.check()
            raise
        finally:
            self._receiving = None

    def spoke(self) -> None:
        """The client has just heard of us."""
        self._spoke_at = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the client must come back elsewhere: raise `drained_error`."""
        return self._streams.draining or time.monotonic() > self._old_at

    def drained_error(self) -> Unavailable:
        """How a stream ends that is over."""
        return Unavailable("the stream is drained, reconnect", reason="DRAINING")

    def beat_due(self) -> bool:
        """Whether the client has heard nothing for long enough; then the beat counts as sent."""
        due = time.monotonic() - self._spoke_at >= self._beat
        if due:
            self.spoke()
        return due

    async def wait(self, look: float = math.inf) -> None:
        """Until there is news, a beat is due, or `look` seconds are over."""
        left = self._beat - (time.monotonic() - self._spoke_at)
        await self._flag.wait(max(0.01, min(left, look)))


class StreamGuards:
    """Makes them for the streams of this worker."""

    def __init__(
        self, authenticator: Authenticator, streams: Streams, settings: InboxSettings
    ) -> None:
        self._authenticator = authenticator
        self._streams = streams
        self._beat = settings.beat
        self._max_age = settings.max_age

    @contextlib.contextmanager
    def watch(self, flag: Flag, call: Call) -> Iterator[StreamGuard]:
        """Watch over the stream that this call opens, while inside; the flag is its news."""
        authorization = call.metadata.get("authorization")
        guard = StreamGuard(flag, self._streams, beat=self._beat, max_age=self._max_age)
        with self._authenticator.watch(authorization, guard.revoke), self._streams.attend(flag):
            yield guard
