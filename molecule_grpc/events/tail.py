"""One reader of the tables for all readers of a worker: it keeps the newest events in memory."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator
from typing import Final
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Fault, Pool, fault
from molecule_grpc.db.wakeups import Flag, Wakeups
from molecule_grpc.events import store
from molecule_grpc.events.values import EVERYTHING, EventPage, Position, Scope, StoredEvent
from molecule_grpc.events.window import EventWindow

log = structlog.get_logger(__name__)

# Bounds of a page, from memory or from the tables: a slow client keeps a page from being freed.
PAGE_EVENTS: Final = 200
PAGE_BYTES: Final = 256 * 1024
# What all readers of a worker share: at 100 events/s the last 20 seconds.
_WINDOW_EVENTS = 2000
_WINDOW_BYTES = 4 * 1024 * 1024
# A wake-up may be lost, and no wake-up tells that an older transaction has ended.
_LOOK_SECONDS = 1.0
# Under load the tables are read at most this often, so that each read brings several events.
_PACE_SECONDS = 0.02
_RETRY_SECONDS = 1.0

# Followers by what they follow: a workspace, an organisation, or everything.
_Key = UUID | None


class _Follower:
    """A reader: its scope, and the flag that events of the scope raise."""

    __slots__ = ("flag", "scope")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.flag = Flag(store.CHANNEL_ALL)

    @property
    def key(self) -> _Key:
        """Under which `EventTail` finds this follower."""
        return self.scope.workspace_id or self.scope.organization_id


class EventTail:
    """Follows the feed while anybody does, with one query for all of them."""

    def __init__(self, pool: Pool, wakeups: Wakeups) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._window = EventWindow(max_events=_WINDOW_EVENTS, max_bytes=_WINDOW_BYTES)
        self._followers: dict[_Key, set[_Follower]] = {}
        self._followed = asyncio.Event()
        self._failed = False  # since the last page that could be read

    @contextlib.contextmanager
    def follow(self, scope: Scope) -> Iterator[Flag]:
        """A flag that is raised when there may be news of this scope, while inside."""
        if not self._followers:
            self._window.close()  # events that nobody followed are not here
        follower = _Follower(scope)
        self._followers.setdefault(follower.key, set()).add(follower)
        self._followed.set()
        try:
            yield follower.flag
        finally:
            followers = self._followers[follower.key]
            followers.discard(follower)
            if not followers:
                del self._followers[follower.key]
            if not self._followers:
                self._followed.clear()
                self._window.close()

    def page_after(self, place: Position, scope: Scope) -> EventPage | None:
        """News from memory; None for a reader that is too far behind, or ahead of the first look.

        Such a reader reads the tables, until it comes to a place that the window holds.
        """
        return self._window.page_after(place, scope, limit=PAGE_EVENTS, max_bytes=PAGE_BYTES)

    async def run(self) -> None:
        """Keep up with the feed while anybody follows it. Cancel to stop."""
        read_at = -math.inf
        with self._wakeups.watch(store.CHANNEL_ALL) as news:
            while True:
                await self._followed.wait()
                await asyncio.sleep(read_at + _PACE_SECONDS - time.monotonic())
                read_at = time.monotonic()
                news.clear()
                try:
                    more = await self._advance()
                except Exception as error:  # noqa: BLE001  (the next look begins anew)
                    self._fail(error)
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    self._failed = False
                    if not more:
                        await news.wait(_LOOK_SECONDS)

    async def _advance(self) -> bool:
        """Read what comes next; whether there is more already."""
        after = self._window.end
        if after is None:
            self._window.open(await store.now(self._pool))
            # Followers read the tables for everything before that place.
            self._wake_everybody()
            return True
        page = await store.read(
            self._pool, after, EVERYTHING, limit=PAGE_EVENTS, max_bytes=PAGE_BYTES
        )
        if self._window.end == after:  # not closed meanwhile
            self._window.append(page)
            for event in page.events:
                self._wake(event)
        return page.more

    def _fail(self, error: Exception) -> None:
        """Close the window: each reader then asks the database itself, and meets the outage."""
        outage = fault(error) is Fault.OUTAGE
        if not outage or not self._failed:
            log.warning("events cannot be read", error=type(error).__name__, exc_info=not outage)
        self._failed = True
        self._window.close()
        self._wake_everybody()

    def _wake(self, event: StoredEvent) -> None:
        for key in (event.workspace_id, event.organization_id, None):
            for follower in self._followers.get(key, ()):
                if follower.scope.covers(event):
                    follower.flag.set()

    def _wake_everybody(self) -> None:
        for followers in self._followers.values():
            for follower in followers:
                follower.flag.set()
