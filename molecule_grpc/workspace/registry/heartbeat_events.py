"""Heartbeats as live events, written only while somebody reads the feed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.directory import Heartbeat, HeartbeatResult
from molecule_grpc.events.names import EventType
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.workspace.registry.store import heartbeat_events as store

PUBLISH_SECONDS: Final = 0.5


class HeartbeatEvents:
    """Gathers events between two calls of `publish`; one of each type for a workspace.

    Args:
        readers: while nobody reads the feed nothing is gathered.
        tell_readers: wakes the readers of the feed.
    """

    def __init__(self, pool: Pool, readers: EventReaders, tell_readers: Callable[[], None]) -> None:
        self._pool = pool
        self._readers = readers
        self._tell_readers = tell_readers
        self._waiting: set[tuple[EventType, UUID]] = set()

    def on_heartbeats(self, done: Sequence[tuple[Heartbeat, HeartbeatResult]]) -> None:
        """Gather the events of these committed heartbeats."""
        if self._readers.present:
            self._waiting.update((EventType.WORKSPACE_HEARTBEAT, each.id) for _, each in done)
            self.tasks_changed(each.id for _, each in done if each.tasks_changed)

    def tasks_changed(self, workspace_ids: Iterable[UUID]) -> None:
        """Gather that these workspaces do something else now."""
        if self._readers.present:
            self._waiting.update((EventType.TASK_UPDATED, each) for each in workspace_ids)

    async def publish(self) -> None:
        """Write what has gathered. A failure loses these events: the next heartbeat makes newer."""
        if self._waiting:
            waiting, self._waiting = self._waiting, set()
            await store.publish(self._pool, sorted(waiting))
            self._tell_readers()
