"""One reader of an inbox: what it has been sent, what it may be sent next, and when it must end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from moleculeai.delegation.v1 import inbox_pb2

from molecule_grpc.db.wakeups import Flag
from molecule_grpc.delegation import convert
from molecule_grpc.delegation.journal import Journal
from molecule_grpc.delegation.store.inbox import Page, Row, Want
from molecule_grpc.errors import Aborted, NotFound, Unauthenticated, Unavailable

PAGE = 64
_MAX_IN_FLIGHT_BYTES = 4 * 1024 * 1024
# Acks are still taken for so long after a drain was announced.
DRAIN_GRACE_SECONDS = 10.0
_MAX_REPLIES = 1000


class Frame(Protocol):
    """Any message that can be a frame."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802


@dataclass(slots=True)
class Limits:
    """How a session is paced, in seconds.

    Args:
        beat: silence after which a Beat is sent.
        max_age: age at which the client is asked to come back.
    """

    beat: float
    max_age: float


@dataclass(slots=True, eq=False)
class Session:
    """State of one stream. `epoch` 0 takes no lease and is never fenced.

    Args:
        cursor: highest item sent, or where it began.
        window: most items sent and not done; None for no bound.
        credit: items that may still be sent; None when the client counts none.
    """

    workspace_id: UUID
    flag: Flag
    cursor: int
    window: int | None
    epoch: int = 0
    credit: int | None = None
    consumer: str = ""
    # Items sent and not done, with their size; those sent again, with the delivery sent.
    in_flight: dict[int, int] = field(default_factory=dict)
    in_flight_bytes: int = 0
    resent: dict[int, int] = field(default_factory=dict)
    last_sent: int = 0
    first_sent_after: int = 0
    acked: int = 0
    head: int = 0
    replies: deque[Frame] = field(default_factory=deque)
    draining: bool = False
    revoked: bool = False
    left: bool = False
    error: Exception | None = None

    @property
    def room(self) -> int:
        """How many items may be sent now."""
        room = PAGE
        if self.window is not None:
            room = min(room, self.window - len(self.in_flight))
            if self.in_flight_bytes >= _MAX_IN_FLIGHT_BYTES:
                room = 0
        if self.credit is not None:
            room = min(room, self.credit)
        return max(0, room)

    def sent(self, row: Row) -> None:
        """An item is on its way."""
        if row.seq > self.cursor:
            self.cursor = row.seq
        else:
            self.resent[row.seq] = row.deliveries
        self.last_sent = max(self.last_sent, row.seq)
        if self.window is not None:
            size = len(row.body or "")
            self.in_flight[row.seq] = size
            self.in_flight_bytes += size
        if self.credit is not None:
            self.credit -= 1

    def done(self, acked_seq: int, seqs: tuple[int, ...] = ()) -> None:
        """Items are done: all up to `acked_seq`, and these."""
        self.acked = max(self.acked, acked_seq)
        if self.in_flight:
            for seq in [s for s in self.in_flight if s <= acked_seq or s in seqs]:
                self.in_flight_bytes -= self.in_flight.pop(seq)
        if self.resent:
            self.resent = {s: d for s, d in self.resent.items() if s > acked_seq}

    def given_back(self, seq: int) -> None:
        """An item was nacked: it may be sent again when it is due."""
        self.in_flight_bytes -= self.in_flight.pop(seq, 0)

    def wants(self, row: Row) -> bool:
        """Whether to send this item: not when this very delivery of it is with the client."""
        if row.seq in self.in_flight:
            return False
        return row.seq > self.cursor or self.resent.get(row.seq, -1) < row.deliveries

    def reply(self, frame: Frame) -> None:
        """Send a frame between items."""
        self.replies.append(frame)
        self.flag.set()

    @property
    def crowded(self) -> bool:
        """Whether the client does not read the answers to its frames."""
        return len(self.replies) >= _MAX_REPLIES


async def run(session: Session, journal: Journal, limits: Limits) -> AsyncIterator[Frame]:
    """The frames of a session after its Welcome, until it ends.

    Raises:
        Aborted: a newer session holds the inbox.
        Unavailable: the server drains, or the stream is old: come back.
        NotFound: the workspace is gone.
        Unauthenticated: the token was revoked.
    """
    started = time.monotonic()
    drain_end: float | None = None
    quiet_since = started
    while True:
        session.flag.clear()
        while session.replies:
            quiet_since = time.monotonic()
            yield session.replies.popleft()
        room = session.room
        # Items that are being tried again may stand in the way of others that are due.
        wanted = room and room + min(len(session.resent), PAGE)
        page = await journal.read(Want(session.workspace_id, session.cursor, wanted))
        _check(session, page)
        now = time.monotonic()
        if drain_end is None and (session.draining or now - started > limits.max_age):
            session.draining = True
            drain_end = now + DRAIN_GRACE_SECONDS
            yield inbox_pb2.Drain(reconnect_after_ms=_spread(session))
        if drain_end is not None:
            if session.epoch == 0 or now >= drain_end or not session.in_flight:
                raise Unavailable("the stream is drained, reconnect", reason="DRAINING")
            await session.flag.wait(drain_end - now)
            continue
        paused = page.workspace_status == "paused"
        sent = 0
        if not paused:
            for row in page.items:
                if session.room and session.wants(row):
                    prev = session.last_sent or session.first_sent_after
                    session.sent(row)
                    sent += 1
                    yield convert.item(row, prev)
        if sent:
            quiet_since = time.monotonic()
            if sent == room:
                continue  # there may be more; anything newer than this page sets the flag
        if time.monotonic() - quiet_since >= limits.beat:
            quiet_since = time.monotonic()
            yield _beat(page, paused=paused)
        patience = limits.beat - (time.monotonic() - quiet_since)
        if page.retry_in is not None:
            patience = min(patience, page.retry_in)
        await session.flag.wait(max(0.01, patience))


def _check(session: Session, page: Page) -> None:
    """Raise when the session must end; take in what the page says of the inbox."""
    if session.error is not None:
        raise session.error
    if page.workspace_status in ("", "removed"):
        raise NotFound("workspace removed", reason="WORKSPACE_REMOVED")
    if session.revoked:
        raise Unauthenticated("the token was revoked")
    if session.epoch and page.lease_epoch != session.epoch:
        raise Aborted("another consumer took over", reason="FENCED")
    if session.left:
        raise asyncio.CancelledError
    session.head = page.head_seq
    session.done(page.acked_seq)


def _beat(page: Page, *, paused: bool) -> inbox_pb2.Beat:
    beat = inbox_pb2.Beat(head_seq=page.head_seq, acked_seq=page.acked_seq, paused=paused)
    beat.server_time.GetCurrentTime()
    return beat


def _spread(session: Session) -> int:
    """Milliseconds, 0 to 5000, so that a fleet does not come back in one instant."""
    return int.from_bytes(session.workspace_id.bytes[-2:]) % 5000
