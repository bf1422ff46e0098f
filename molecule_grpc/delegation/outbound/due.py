"""Which workspaces' queues may have messages to deliver now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from uuid import UUID


class DueWorkspaces:
    """Remembers for which workspaces messages wait. A lost entry only waits for the next sweep."""

    def __init__(self) -> None:
        self._known: set[UUID] = set()
        self._wanted: set[UUID] = set()
        self._some = asyncio.Event()

    def add(self, workspace_id: UUID) -> None:
        """A message waits for this workspace: look now."""
        self._known.add(workspace_id)
        self._want(workspace_id)

    def soon(self, workspace_id: UUID, delay: float) -> None:
        """A message waits for this workspace: look in `delay` seconds."""
        if delay <= 0:
            self.add(workspace_id)
        else:
            self._known.add(workspace_id)
            asyncio.get_running_loop().call_later(delay, self._want, workspace_id)

    def agents_have_room(self, workspace_ids: Iterable[UUID]) -> None:
        """These agents may have room now: look at those for which messages wait."""
        for workspace_id in self._known.intersection(workspace_ids):
            self._want(workspace_id)

    def reset(self, due_in: Mapping[UUID, float]) -> None:
        """Messages wait for these workspaces and for no others; look in so many seconds."""
        self._known.clear()
        for workspace_id, delay in due_in.items():
            self.soon(workspace_id, delay)

    async def take(self) -> set[UUID]:
        """Wait until a workspace is due; return all due workspaces and forget them."""
        await self._some.wait()
        self._some.clear()
        wanted, self._wanted = self._wanted, set()
        return wanted

    def _want(self, workspace_id: UUID) -> None:
        self._wanted.add(workspace_id)
        self._some.set()
