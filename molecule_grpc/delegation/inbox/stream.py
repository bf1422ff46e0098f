"""The life of one inbox stream after its Welcome: look, send, wait, and the reasons to end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

from moleculeai.delegation.v1 import inbox_pb2

from molecule_grpc.delegation import convert
from molecule_grpc.delegation.inbox.reads import InboxReads
from molecule_grpc.delegation.inbox.session import PAGE, Frame, Session
from molecule_grpc.delegation.inbox.store.inbox import InboxPage, InboxQuery
from molecule_grpc.kernel.errors import Aborted, Exhausted, NotFound, Unavailable

# Acks are still taken for so long after a drain was announced.
_DRAIN_GRACE_SECONDS = 10.0
# Acks and nacks that came by unary calls are looked for this seldom while the window is full.
_SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How a stream is paced, in seconds.

    Args:
        beat: quiet after which a Beat is sent.
        silence: a client that holds a lease and sends no frame for so long is lost.
        max_age: age at which the client is asked to come back.
    """

    beat: float
    silence: float
    max_age: float


class Stream:
    """Frames for a session, until it ends or the client leaves.

    Args:
        authorize: raises when the client's token is not valid any more.
    """

    def __init__(
        self,
        session: Session,
        reads: InboxReads,
        limits: Limits,
        authorize: Callable[[], Awaitable[None]],
    ) -> None:
        self._session = session
        self._reads = reads
        self._limits = limits
        self._authorize = authorize
        now = time.monotonic()
        self._old_at = now + limits.max_age
        self._settled = self._quiet_since = now
        self._drain_end: float | None = None
        self._woken = False

    async def frames(self) -> AsyncIterator[Frame]:
        """The frames, as they are due.

        Raises:
            Aborted: a newer session holds the inbox.
            Unavailable: the server drains, or the stream is old: come back.
            NotFound: the workspace is gone.
            Unauthenticated: the token was revoked.
            Exhausted: the client that holds the lease is silent.
        """
        session = self._session
        while True:
            session.flag.clear()
            while session.replies:
                self._quiet_since = time.monotonic()
                yield session.replies.popleft()
            room = session.room
            page = await self._look(room)
            if session.left:
                return
            if self._drain_end is None and self._must_drain():
                yield inbox_pb2.Drain(reconnect_after_ms=_spread(session))
            if self._drain_end is not None:
                await self._wind_down(self._drain_end)
                continue
            sent = 0
            for frame in self._items(page):
                sent += 1
                yield frame
            if sent:
                self._quiet_since = time.monotonic()
                if sent == room:
                    continue  # there may be more; anything newer than this page sets the flag
            if time.monotonic() - self._quiet_since >= self._limits.beat:
                yield self._beat(page)
            await self._wait(page)

    async def _look(self, room: int) -> InboxPage:
        """The inbox now. Raises when the session must end."""
        session = self._session
        # Items that are being tried again may stand in the way of others that are due.
        wanted = room and room + min(len(session.resent), PAGE)
        want = InboxQuery(session.workspace_id, session.cursor, wanted)
        # In doubt nothing is taken from memory: a removed workspace has no valid token either.
        look = self._reads.look if session.doubted else self._reads.read
        page = await look(want)
        if session.error is not None:
            raise session.error
        if page.workspace_status in ("", "removed"):
            raise NotFound("workspace removed", reason="WORKSPACE_REMOVED")
        if session.doubted:
            session.doubted = False
            await self._authorize()
        if session.epoch and page.lease_epoch != session.epoch:
            raise Aborted("another consumer took over", reason="FENCED")
        session.head = page.head_seq
        session.done(page.acked_seq)
        return page

    def _must_drain(self) -> bool:
        now = time.monotonic()
        if self._session.draining or now > self._old_at:
            self._session.draining = True
            self._drain_end = now + _DRAIN_GRACE_SECONDS
        return self._session.draining

    async def _wind_down(self, end: float) -> None:
        """No new items; wait for the acks of those that are with the client, or say goodbye."""
        session = self._session
        now = time.monotonic()
        if session.epoch == 0 or now >= end or not session.in_flight:
            raise Unavailable("the stream is drained, reconnect", reason="DRAINING")
        await session.flag.wait(end - now)

    def _items(self, page: InboxPage) -> Iterator[Frame]:
        session = self._session
        if page.workspace_status == "paused":
            return
        for row in page.items:
            if session.room and session.wants(row):
                prev = session.last_sent or session.first_sent_after
                session.sent(row)
                yield convert.item(row, prev)

    def _beat(self, page: InboxPage) -> Frame:
        self._quiet_since = time.monotonic()
        if self._session.epoch and self._quiet_since - self._session.heard >= self._limits.silence:
            raise Exhausted("the client is silent", reason="SLOW_CONSUMER")
        beat = inbox_pb2.Beat(
            head_seq=page.head_seq,
            acked_seq=page.acked_seq,
            paused=page.workspace_status == "paused",
        )
        beat.server_time.GetCurrentTime()
        return beat

    async def _wait(self, page: InboxPage) -> None:
        """Until there may be news, or something is due."""
        session = self._session
        now = time.monotonic()
        wait_limit = self._limits.beat - (now - self._quiet_since)
        if page.retry_in is not None:
            wait_limit = min(wait_limit, page.retry_in)
        if session.in_flight and not session.room:
            rest = self._settled + _SETTLE_SECONDS - now
            if rest <= 0:
                self._settled = now
                if await self._settle():
                    return
            elif self._woken:
                wait_limit = min(wait_limit, rest)
        self._woken = await session.flag.wait(max(0.01, wait_limit))

    async def _settle(self) -> bool:
        """Take in acks and nacks that came by unary calls; whether they made room."""
        session = self._session
        session.settle(await self._reads.undone(session.workspace_id, list(session.in_flight)))
        return session.room > 0


def _spread(session: Session) -> int:
    """Milliseconds, 0 to 5000, so that a fleet does not come back in one instant."""
    return int.from_bytes(session.workspace_id.bytes[-2:]) % 5000
