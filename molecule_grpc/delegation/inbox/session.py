"""State of one reader of an inbox: what it has been sent, and what it may be sent next."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from uuid import UUID

from molecule_grpc.db.wakeups import Flag
from molecule_grpc.delegation.inbox.store.inbox import InboxRow

PAGE = 64
_MAX_IN_FLIGHT_BYTES = 4 * 1024 * 1024
_MAX_REPLIES = 1000


class Frame(Protocol):
    """Any message that can be a frame."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802


class Sent(NamedTuple):
    """An item that is with the client."""

    size: int
    deliveries: int


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
    # Items sent and not done; those sent again, with the delivery sent.
    in_flight: dict[int, Sent] = field(default_factory=dict)
    in_flight_bytes: int = 0
    resent: dict[int, int] = field(default_factory=dict)
    last_sent: int = 0
    first_sent_after: int = 0
    acked: int = 0
    head: int = 0
    replies: deque[Frame] = field(default_factory=deque)
    heard: float = field(default_factory=time.monotonic)
    draining: bool = False
    # The token may have been revoked.
    doubted: bool = False
    left: bool = False
    error: Exception | None = None
    # It ended without the client's fault.
    over: bool = False

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

    def sent(self, row: InboxRow) -> None:
        """An item is on its way."""
        if row.seq > self.cursor:
            self.cursor = row.seq
        else:
            self.resent[row.seq] = row.deliveries
        self.last_sent = max(self.last_sent, row.seq)
        if self.window is not None:
            self.given_back(row.seq)
            sent = Sent(len(row.body or ""), row.deliveries)
            self.in_flight[row.seq] = sent
            self.in_flight_bytes += sent.size
        if self.credit is not None:
            self.credit -= 1

    def done(self, acked_seq: int, seqs: tuple[int, ...] = ()) -> None:
        """Items are done: all up to `acked_seq`, and these."""
        self.acked = max(self.acked, acked_seq)
        if self.in_flight:
            for seq in [s for s in self.in_flight if s <= acked_seq or s in seqs]:
                self.given_back(seq)
        if self.resent:
            self.resent = {s: d for s, d in self.resent.items() if s > acked_seq}

    def given_back(self, seq: int) -> None:
        """An item is not with the client any more. If it is undone it may be sent again."""
        sent = self.in_flight.pop(seq, None)
        if sent is not None:
            self.in_flight_bytes -= sent.size

    def settle(self, undone: dict[int, int]) -> None:
        """Of the items in flight these are undone, delivered in vain so many times."""
        for seq, sent in list(self.in_flight.items()):
            if undone.get(seq, sent.deliveries + 1) > sent.deliveries:
                self.given_back(seq)

    def wants(self, row: InboxRow) -> bool:
        """Whether to send this item: not when this very delivery of it is with the client."""
        sent = self.in_flight.get(row.seq)
        if sent is not None:
            return sent.deliveries < row.deliveries
        return row.seq > self.cursor or self.resent.get(row.seq, -1) < row.deliveries

    def reply(self, frame: Frame) -> None:
        """Send a frame between items."""
        self.replies.append(frame)
        self.flag.set()

    @property
    def crowded(self) -> bool:
        """Whether the client does not read the answers to its frames."""
        return len(self.replies) >= _MAX_REPLIES
