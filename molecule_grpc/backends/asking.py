"""Backends are asked to start new workspaces, and to remove the workloads of removed ones."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.backends.operations.queue import Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.backends.operations.store import queue as store
from molecule_grpc.db.pool import Connection


class Asking:
    """Asks for operations when workspaces come and go.

    Args:
        wake: wakes the runners of all workers.
    """

    def __init__(self, dispatch: Dispatch, wake: Callable[[], None]) -> None:
        self._dispatch = dispatch
        self._wake = wake

    @property
    def can_start(self) -> bool:
        """Whether any backend starts workspaces here."""
        return self._dispatch.can_start

    async def start(self, conn: Connection, workspace_id: UUID, organization_id: UUID) -> None:
        """Ask for the start of a new workspace."""
        await enqueue(conn, [Wanted(workspace_id, organization_id, Kind.START, "create")])

    async def remove(self, conn: Connection, workspace_ids: list[UUID]) -> None:
        """Ask for the removal of what runs, may run or is kept of these workspaces."""
        started = await store.started(conn, workspace_ids)
        await enqueue(
            conn,
            [Wanted(each, owner, Kind.REMOVE, "delete") for each, owner in started.items()],
        )

    def announce(self) -> None:
        """What was asked for is committed."""
        self._wake()
