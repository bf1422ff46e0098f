"""Workloads as senders of messages see them, bound when the slice that runs them opens."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.directory import Containers


class LateContainers:
    """Passes on to what runs workloads. Until that is there, none is dead and none wakes."""

    def __init__(self) -> None:
        self._used: Containers | None = None

    def use(self, containers: Containers) -> None:
        """Pass on to these from now on."""
        self._used = containers

    async def is_dead(self, workspace_id: UUID) -> bool:
        """Whether the agent's workload definitely does not run; False in doubt."""
        return self._used is not None and await self._used.is_dead(workspace_id)

    async def wake(self, workspace_id: UUID) -> None:
        """Begin to start a hibernated workload, durably. More calls change nothing."""
        if self._used is not None:
            await self._used.wake(workspace_id)
