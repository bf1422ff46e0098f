"""The slice's port: restarting agents whose secrets have changed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol
from uuid import UUID

from molecule_grpc.db.pool import Connection


class Restarts(Protocol):
    """Starts agents again."""

    @property
    def can_start(self) -> bool:
        """Whether any agent is started here at all."""
        ...

    async def environment_changed(self, conn: Connection, workspace_ids: Collection[UUID]) -> None:
        """Restart what runs of these workspaces, in the transaction of the change.

        What sleeps, is paused or runs elsewhere is left alone.
        """
        ...

    def announce(self) -> None:
        """Begin: the transaction is committed."""
        ...
