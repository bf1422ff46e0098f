"""Heartbeats as events, for whoever looks at the moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.events.audience import Audience
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.events.types import EventType
from molecule_grpc.workspace.store import pulse
from molecule_grpc.workspace.store.beats import Beat, Beaten

SHOW_SECONDS = 0.5


class Pulse:
    """Gathers what workspaces show of themselves; while nobody looks it gathers nothing.

    Of one workspace and type only the newest is shown.
    """

    def __init__(self, pool: Pool, wakeups: Wakeups, audience: Audience) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._audience = audience
        self._waiting: set[tuple[EventType, UUID]] = set()

    def beaten(self, done: Sequence[tuple[Beat, Beaten]]) -> None:
        """These heartbeats were applied."""
        if self._audience.present:
            self._waiting.update((EventType.WORKSPACE_HEARTBEAT, each.id) for _, each in done)
            self.tasks_changed(each.id for _, each in done if each.tasks_changed)

    def tasks_changed(self, workspace_ids: Iterable[UUID]) -> None:
        """What these workspaces do is something else now."""
        if self._audience.present:
            self._waiting.update((EventType.TASK_UPDATED, each) for each in workspace_ids)

    async def show(self) -> None:
        """Show what has gathered. What a failure loses is not worth another try."""
        if self._waiting:
            waiting, self._waiting = self._waiting, set()
            await pulse.show(self._pool, sorted(waiting))
            self._wakeups.announce([CHANNEL_ALL])
