"""What every long stream heeds beside its own news: its token, its age, silence, and the server."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.db.wakeups import Flag
from molecule_grpc.kernel.errors import Unauthenticated, Unavailable
from molecule_grpc.server.call import Call
from molecule_grpc.settings.inbox import InboxSettings


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
    """Watches over one stream. A turn: `check`, the news, `over`, `beat_due`, `wait`."""

    def __init__(
        self, flag: Flag, streams: Streams, revoked: list[bool], *, beat: float, max_age: float
    ) -> None:
        self._flag = flag
        self._streams = streams
        self._revoked = revoked
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
        revocation = self._authenticator.revocation(authorization, flag.set)
        with revocation as revoked, self._streams.attend(flag):
            yield StreamGuard(flag, self._streams, revoked, beat=self._beat, max_age=self._max_age)
