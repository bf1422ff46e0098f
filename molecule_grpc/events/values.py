"""Values of the feed of events: a place, a stored event, a scope, a page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

# Bytes of an event beside its payload, in memory and on the wire.
_ENVELOPE_BYTES = 400
_LAST_POSITION: Final = 2**62


class Position(NamedTuple):
    """A place in the feed: events are ordered by transaction first, then by their sequence."""

    xact: int
    position: int

    @classmethod
    def behind(cls, xact: int) -> Position:
        """The place behind every event of this transaction and of all before it."""
        return cls(xact, _LAST_POSITION)


# Behind every possible event.
LAST_PLACE: Final = Position(2**62, _LAST_POSITION)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class StoredEvent:
    """One event as it is read. `payload` is JSON text; `type` may be one that writers have dropped.

    Equal only to itself, so that what is rendered of an event can be held as long as the event.
    """

    place: Position
    id: UUID
    type: str
    organization_id: UUID
    workspace_id: UUID | None
    payload: str
    created_at: datetime
    kept: bool

    @property
    def size(self) -> int:
        """Bytes that the event takes, about."""
        return _ENVELOPE_BYTES + len(self.payload)


class Scope(NamedTuple):
    """The bounds of what a reader sees. None and () leave a bound out."""

    organization_id: UUID | None
    workspace_id: UUID | None
    types: tuple[str, ...]

    def covers(self, event: StoredEvent) -> bool:
        """Whether this event is for the reader. `store.read` says the same in SQL."""
        return (
            (self.workspace_id is None or event.workspace_id == self.workspace_id)
            and (self.organization_id is None or event.organization_id == self.organization_id)
            and (not self.types or event.type in self.types)
        )


EVERYTHING: Final = Scope(None, None, ())


class EventPage(NamedTuple):
    """Some events of the feed, oldest first.

    Args:
        end: the place behind the page: no event before it is left, and none will come there.
        more: whether there are further events already.
    """

    events: list[StoredEvent]
    end: Position
    more: bool
