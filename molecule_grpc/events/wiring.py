"""Opens the feed of events for one worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.events import store
from molecule_grpc.events.feed import EventFeed
from molecule_grpc.events.readers import ANNOUNCE_SECONDS, EventReaders
from molecule_grpc.events.service import EventsService
from molecule_grpc.events.tail import EventTail
from molecule_grpc.server.streams import StreamGuards
from molecule_grpc.server.tasks import BackgroundTask

_PRUNE_SECONDS = 300.0
# Enough to delete a day's live events after all workers were stopped.
_PRUNE_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """The feed of one worker.

    Args:
        service: the handlers of SubscribeEvents and StreamEvents.
        tasks: steps that run on a period.
        loops: endless coroutines by name. Without them readers see nothing new.
    """

    service: EventsService
    tasks: Sequence[BackgroundTask]
    loops: Mapping[str, Callable[[], Awaitable[None]]]


def make_events(
    pool: Pool,
    wakeups: Wakeups,
    authenticator: Authenticator,
    guards: StreamGuards,
    readers: EventReaders,
) -> Events:
    """The feed of one worker. The layers put events below `core.Core`: give its parts."""
    tail = EventTail(pool, wakeups)
    feed = EventFeed(pool, tail, authenticator, readers)
    return Events(
        service=EventsService(feed, guards),
        tasks=[
            BackgroundTask(
                "event-retention",
                _PRUNE_SECONDS,
                lambda: store.prune(pool),
                timeout=_PRUNE_TIMEOUT_SECONDS,
            ),
            BackgroundTask("event-readers", ANNOUNCE_SECONDS, readers.announce_readers),
        ],
        loops={"event-tail": tail.run},
    )
