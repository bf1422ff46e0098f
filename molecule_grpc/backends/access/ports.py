"""What files, logs and terminals need of the slice that owns workspaces."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from molecule_grpc.directory import Managed


class AccessRows(Protocol):
    """Rows of workspaces, as far as somebody looks into their workloads."""

    async def look(self, workspace_id: UUID) -> Managed | None:
        """A live workspace, without a lock."""
        ...

    async def touch_active(self, seen: Sequence[tuple[UUID, datetime]]) -> None:
        """Note when workspaces were last active, where that is later than what is known."""
        ...

    async def running_in(self, within: UUID | None, *, after: UUID, limit: int) -> list[Managed]:
        """Workspaces whose workload should run now, in id order behind `after`.

        Args:
            within: the only organisation that they may be of; None for any.
        """
        ...
