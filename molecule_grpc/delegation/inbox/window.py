"""The window of one reader: items with the client, and room for more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from molecule_grpc.delegation.inbox.store.reads import InboxRow

# Most items of one look at the inbox.
PAGE = 64
_MAX_IN_FLIGHT_BYTES = 4 * 1024 * 1024


class Sent(NamedTuple):
    """An item that is with the client: the size of its body, and its failed deliveries before."""

    size: int
    deliveries: int


@dataclass(slots=True)
class Window:
    """Items with the client are bounded by count, by 4 MiB of bodies, and by the client's credit.

    Args:
        starts_after: the stream delivers items after this one.
        limit: most items sent and not done; None for no bound, and then none are remembered.
        credit: items that may still be sent; None when the client counts none.
    """

    starts_after: int
    limit: int | None
    credit: int | None = None
    # Highest item sent, or the start position.
    cursor: int = field(init=False)
    last_sent: int = 0
    # Newest item that is known, and the mark up to which all are done.
    head: int = 0
    acked: int = 0
    in_flight: dict[int, Sent] = field(default_factory=dict)
    in_flight_bytes: int = 0
    # Items below the cursor that were sent again, with the number of the delivery sent.
    resent: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cursor = self.starts_after

    @property
    def room(self) -> int:
        """How many items may be sent now, at most a page."""
        room = PAGE
        if self.limit is not None:
            if self.in_flight_bytes >= _MAX_IN_FLIGHT_BYTES:
                return 0
            room = min(room, self.limit - len(self.in_flight))
        if self.credit is not None:
            room = min(room, self.credit)
        return max(0, room)

    @property
    def wanted(self) -> int:
        """How many items to read for that room.

        Items that were sent again already may stand in the way of others that are due.
        """
        room = self.room
        return room and room + min(len(self.resent), PAGE)

    @property
    def highest_delivered(self) -> int:
        """The highest item that this client can have: sent here, or done or sent before."""
        return max(self.last_sent, self.acked, self.starts_after)

    def wants(self, row: InboxRow) -> bool:
        """Whether to send this item: not while this very delivery of it is with the client."""
        sent = self.in_flight.get(row.seq)
        if sent is not None:
            return sent.deliveries < row.deliveries
        return row.seq > self.cursor or self.resent.get(row.seq, -1) < row.deliveries

    def send(self, row: InboxRow) -> int:
        """Count an item as sent; returns the number of the highest one sent before it."""
        before = self.last_sent or self.starts_after
        if row.seq > self.cursor:
            self.cursor = row.seq
        else:
            self.resent[row.seq] = row.deliveries
        self.last_sent = max(self.last_sent, row.seq)
        if self.limit is not None:
            self.given_back(row.seq)
            sent = Sent(len(row.body or ""), row.deliveries)
            self.in_flight[row.seq] = sent
            self.in_flight_bytes += sent.size
        if self.credit is not None:
            self.credit -= 1
        return before

    def grant(self, items: int) -> None:
        """The client may be sent so many more items; nothing changes when it counts no credit."""
        if self.credit is not None:
            self.credit += items

    def done(self, acked_seq: int, seqs: tuple[int, ...] = ()) -> None:
        """Items are done: all up to `acked_seq`, and these."""
        self.acked = max(self.acked, acked_seq)
        if self.in_flight:
            for seq in [s for s in self.in_flight if s <= acked_seq or s in seqs]:
                self.given_back(seq)
        if self.resent:
            self.resent = {s: d for s, d in self.resent.items() if s > acked_seq}

    def given_back(self, seq: int) -> None:
        """An item left the client; if undone, the next look may send the item again."""
        sent = self.in_flight.pop(seq, None)
        if sent is not None:
            self.in_flight_bytes -= sent.size

    def settle(self, undone: Mapping[int, int]) -> None:
        """Forget items in flight that are done or were given back elsewhere.

        Args:
            undone: of the items in flight, those that are not done, with their failed deliveries.
        """
        for seq, sent in list(self.in_flight.items()):
            if undone.get(seq, sent.deliveries + 1) > sent.deliveries:
                self.given_back(seq)
