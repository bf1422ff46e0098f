"""What the slice needs of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import UUID

from molecule_grpc.quotas import QuotaUse


class LeaveMessage(Protocol):
    """Leaves a text of the platform for an agent."""

    async def __call__(self, workspace_id: UUID, text: str, message_id: str = "") -> None:
        """Put the text into the inbox or the queue; a text with the same id is there once.

        Raises:
            Exhausted: INBOX_FULL.
        """
        ...


class Workspaces(Protocol):
    """What happens to workspaces. The `on_...` members take subscribers."""

    @property
    def on_uses(
        self,
    ) -> Callable[[Callable[[UUID, UUID | None], Awaitable[list[QuotaUse]]]], None]: ...
