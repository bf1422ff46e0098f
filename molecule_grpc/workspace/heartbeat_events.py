"""Heartbeats as events, for whoever looks at the moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.events.names import EventType
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.workspace.store import heartbeat_events as events_store
from molecule_grpc.workspace.store.heartbeats import Heartbeat, HeartbeatResult

PUBLISH_SECONDS = 0.5


class HeartbeatEvents:
    """Gathers what workspaces show of themselves; while nobody looks it gathers nothing.

    Of one workspace and type only the newest is shown.
    """

    def __init__(self, pool: Pool, wakeups: Wakeups, audience: EventReaders) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._audience = audience
        self._waiting: set[tuple[EventType, UUID]] = set()

    def on_heartbeats(self, done: Sequence[tuple[Heartbeat, HeartbeatResult]]) -> None:
        """These heartbeats were applied."""
        if any(each.before != each.after for _, each in done):
            self._wakeups.announce([CHANNEL_ALL])
        if self._audience.present:
            self._waiting.update((EventType.WORKSPACE_HEARTBEAT, each.id) for _, each in done)
            self.tasks_changed(each.id for _, each in done if each.tasks_changed)

    def tasks_changed(self, workspace_ids: Iterable[UUID]) -> None:
        """What these workspaces do is something else now."""
        if self._audience.present:
            self._waiting.update((EventType.TASK_UPDATED, each) for each in workspace_ids)

    async def publish(self) -> None:
        """Show what has gathered. What a failure loses is not worth another try."""
        if self._waiting:
            waiting, self._waiting = self._waiting, set()
            await events_store.publish(self._pool, sorted(waiting))
            self._wakeups.announce([CHANNEL_ALL])
