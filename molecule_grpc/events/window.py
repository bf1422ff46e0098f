"""The newest events in memory, for readers that keep up."""

from __future__ import annotations

from bisect import bisect_right

from molecule_grpc.events.values import EventPage, Position, Scope, StoredEvent


class EventWindow:
    """Every event between two places of the feed, until they are too many or too large.

    A window is closed at first, and closed again when the next events may not follow the last ones.

    Args:
        max_events: most events; beyond that the oldest quarter is dropped.
        max_bytes: most bytes, in the same way.
    """

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: list[StoredEvent] = []
        self._places: list[Position] = []
        self._bytes = 0
        self._start: Position | None = None
        self._end: Position | None = None

    def __len__(self) -> int:
        return len(self._events)

    @property
    def size(self) -> int:
        """Bytes that the events here take, about."""
        return self._bytes

    @property
    def end(self) -> Position | None:
        """The place up to which events are here; None while closed."""
        return self._end

    def open(self, place: Position) -> None:
        """Begin at this place, with no events."""
        self.close()
        self._start = self._end = place

    def close(self) -> None:
        """Forget everything."""
        self._events.clear()
        self._places.clear()
        self._bytes = 0
        self._start = self._end = None

    def append(self, page: EventPage) -> None:
        """Add the page that follows `end`. The window must be open."""
        assert self._end is not None, "closed"
        self._events += page.events
        self._places += [event.place for event in page.events]
        self._bytes += sum(event.size for event in page.events)
        self._end = page.end
        while len(self._events) > self._max_events or self._bytes > self._max_bytes:
            self._drop(max(1, len(self._events) // 4))

    def _drop(self, count: int) -> None:
        self._start = self._places[count - 1]
        self._bytes -= sum(event.size for event in self._events[:count])
        del self._events[:count], self._places[:count]

    def page_after(
        self, place: Position, scope: Scope, *, limit: int, max_bytes: int
    ) -> EventPage | None:
        """The events after a place that the scope covers; None when some of them are not here.

        Args:
            limit: most events of the page.
            max_bytes: the page ends before the event that would exceed them; it holds at least one.
        """
        if self._start is None or self._end is None or place < self._start:
            return None
        taken: list[StoredEvent] = []
        room = max_bytes
        for index in range(bisect_right(self._places, place), len(self._places)):
            event = self._events[index]
            if scope.covers(event):
                room -= event.size
                if taken and (len(taken) == limit or room < 0):
                    return EventPage(taken, taken[-1].place, more=True)
                taken.append(event)
        return EventPage(taken, max(place, self._end), more=False)
