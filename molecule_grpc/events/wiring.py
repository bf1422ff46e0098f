"""Opens the feed of events for one worker."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import SWEEP_TIMEOUT_SECONDS
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.events import store
from molecule_grpc.events.feed import EventFeed
from molecule_grpc.events.readers import ANNOUNCE_SECONDS, EventReaders
from molecule_grpc.events.service import EventsService
from molecule_grpc.events.tail import EventTail
from molecule_grpc.events.tokens import ResumeTokens
from molecule_grpc.server.streams import StreamGuards
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.settings.retention import RetentionSettings


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
    loops: Mapping[str, Callable[[], Coroutine[None, None, None]]]


def make_events(
    pool: Pool,
    wakeups: Wakeups,
    authenticator: Authenticator,
    guards: StreamGuards,
    readers: EventReaders,
    retention: RetentionSettings,
    generation: str,
) -> Events:
    """The feed of one worker. The layers put events below `core.Core`: give its parts."""
    tail = EventTail(pool, wakeups)
    tokens = ResumeTokens(generation, retention.events)
    feed = EventFeed(pool, tail, authenticator, readers, tokens)
    return Events(
        service=EventsService(feed, guards, tokens),
        tasks=[
            BackgroundTask(
                "event-retention",
                retention.sweep,
                lambda: store.prune(
                    pool, live_minutes=retention.live_event_minutes, kept_days=retention.events
                ),
                timeout=SWEEP_TIMEOUT_SECONDS,
            ),
            BackgroundTask("event-readers", ANNOUNCE_SECONDS, readers.announce_readers),
        ],
        loops={"event-tail": tail.run},
    )
