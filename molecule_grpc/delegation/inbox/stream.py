"""One open stream of an inbox: look, send, wait; and the reasons for which the stream ends."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from uuid import UUID

from molecule_grpc.delegation.inbox.frames import Beat, Drain, Frame, Item
from molecule_grpc.delegation.inbox.reads import InboxReads
from molecule_grpc.delegation.inbox.store.reads import InboxPage, InboxQuery
from molecule_grpc.delegation.inbox.window import Window
from molecule_grpc.kernel.errors import Aborted, Exhausted, NotFound
from molecule_grpc.server.streams import StreamGuard

# After a drain was announced, acks are still taken for 10 s.
_DRAIN_GRACE_SECONDS = 10.0
# While the window is full, acks and nacks that came by unary calls are looked for once a second.
_SETTLE_SECONDS = 1.0
_MAX_REPLIES = 1000
# While the organisation's clients do not read, a stream waits so long before it looks again.
_CROWDED_SECONDS = 0.5


class InboxStream:
    """Owns what one reader of an inbox may be sent, when it is sent, and why the stream ends.

    Args:
        epoch: number of the session that holds the lease; 0 takes no lease and is never fenced.
        silence: a consumer that holds a lease and sends no frame for so many seconds is lost.
    """

    __slots__ = (
        "_drain_end",
        "_guard",
        "_reads",
        "_replies",
        "_settled_at",
        "_silence",
        "_woken",
        "blameless",
        "epoch",
        "error",
        "heard_at",
        "left",
        "window",
        "workspace_id",
    )

    def __init__(
        self,
        workspace_id: UUID,
        reads: InboxReads,
        guard: StreamGuard,
        window: Window,
        *,
        epoch: int = 0,
        silence: float = math.inf,
    ) -> None:
        self.workspace_id = workspace_id
        self.window = window
        self.epoch = epoch
        # When the client's newest frame came.
        self.heard_at = time.monotonic()
        # The client ended its side in good order, or a frame of its own was refused.
        self.left = False
        self.error: Exception | None = None
        # The stream ended without the client's fault.
        self.blameless = False
        self._reads = reads
        self._guard = guard
        self._silence = silence
        self._replies: deque[Frame] = deque()
        self._settled_at = time.monotonic()
        self._drain_end: float | None = None
        self._woken = False

    # The client's side.

    def reply(self, frame: Frame) -> None:
        """Send a frame between items."""
        self._replies.append(frame)
        self.wake()

    def wake(self) -> None:
        """Something changed that the stream must look at."""
        self._guard.wake()

    @property
    def crowded(self) -> bool:
        """Whether 1000 replies wait because the client does not read them."""
        return len(self._replies) >= _MAX_REPLIES

    @property
    def draining(self) -> bool:
        """Whether the client was told to come back, or is about to be."""
        return self._drain_end is not None or self._guard.draining

    # The server's side.

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """The frames, as they are due.

        Raises:
            Aborted: FENCED, a newer session holds the inbox.
            Unavailable: DRAINING, the server stops or the stream is old.
            NotFound: WORKSPACE_REMOVED.
            Unauthenticated: the token was revoked.
            Exhausted: SLOW_CONSUMER, the client that holds the lease is silent.
        """
        guard, window = self._guard, self.window
        while True:
            guard.clear()
            while self._replies:
                guard.spoke()
                yield self._replies.popleft()
            room = 0 if guard.crowded else window.room
            page = await self._look(items=room > 0)
            if self.left:
                return
            if self._drain_end is None and guard.over:
                self._drain_end = time.monotonic() + _DRAIN_GRACE_SECONDS
                yield Drain(_reconnect_after_ms(self.workspace_id))
            if self._drain_end is not None:
                await self._wind_down(self._drain_end)
                continue
            sent = 0
            for item in self._items(page):
                sent += 1
                yield item
            if sent:
                guard.spoke()
                if sent == room or page.cut:
                    continue  # there may be more; anything newer than this page sets the flag
            if guard.beat_due():
                yield self._beat(page)
            await self._wait(page)

    async def _look(self, *, items: bool) -> InboxPage:
        """The inbox now, with items or without. Raises when the stream must end."""
        window = self.window
        query = InboxQuery(self.workspace_id, window.cursor, window.wanted if items else 0)
        # A removed workspace has no valid token either: the database says which of the two it is.
        ask = self._reads.look if self._guard.revoked else self._reads.read
        page = await ask(query)
        if self.error is not None:
            raise self.error
        if page.workspace_status in ("", "removed"):
            raise NotFound("workspace removed", reason="WORKSPACE_REMOVED")
        # The token may have been revoked during the read.
        if self._guard.revoked:
            raise self._guard.revoked_error()
        if self.epoch and page.lease_epoch != self.epoch:
            raise Aborted("another consumer took over", reason="FENCED")
        window.head = page.head_seq
        window.done(page.acked_seq)
        return page

    async def _wind_down(self, end: float) -> None:
        """No new items: wait for the acks of those that are with the client, then end."""
        now = time.monotonic()
        if self.epoch == 0 or now >= end or not self.window.in_flight:
            raise self._guard.drained_error()
        # No beats while draining: one that is overdue must not end the wait at once.
        self._guard.spoke()
        await self._guard.wait(end - now)

    def _items(self, page: InboxPage) -> Iterator[Item]:
        window = self.window
        if page.workspace_status == "paused":
            return
        for row in page.items:
            if self._guard.crowded:
                return
            if window.room and window.wants(row):
                yield Item(row, window.send(row))

    def _beat(self, page: InboxPage) -> Beat:
        if self.epoch and time.monotonic() - self.heard_at >= self._silence:
            raise Exhausted("the client is silent", reason="SLOW_CONSUMER")
        return Beat(page.head_seq, page.acked_seq, page.workspace_status == "paused")

    async def _wait(self, page: InboxPage) -> None:
        """Until there may be news, or something is due."""
        window = self.window
        limit = math.inf if page.retry_in is None else page.retry_in
        if self._guard.crowded:
            limit = min(limit, _CROWDED_SECONDS)
        if window.in_flight and not window.room:
            now = time.monotonic()
            rest = self._settled_at + _SETTLE_SECONDS - now
            if rest <= 0:
                self._settled_at = now
                if await self._settle():
                    return
            elif self._woken:
                limit = min(limit, rest)
        self._woken = await self._guard.wait(limit)

    async def _settle(self) -> bool:
        """Take in acks and nacks that came by unary calls; whether they made room."""
        window = self.window
        window.settle(await self._reads.undone(self.workspace_id, list(window.in_flight)))
        return window.room > 0


def _reconnect_after_ms(workspace_id: UUID) -> int:
    """0 to 5000 ms by workspace, so that a fleet does not come back in one instant."""
    return int.from_bytes(workspace_id.bytes[-2:]) % 5000
