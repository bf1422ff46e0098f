"""Looking up pairs of workspaces, batched over all calls that ask at the same time."""

from __future__ import annotations

from typing import Self
from uuid import UUID

from molecule_grpc.db.group_commit import GroupCommit
from molecule_grpc.db.pool import Writer
from molecule_grpc.workspace.tree import store


class Pairs:
    """Reads pairs as they are after the call: a flush begins when its calls have been made.

    An async context manager, open while calls are served. A statement of its own connection is
    planned once; one of the pool is planned at every call, which takes longer than it runs.
    """

    def __init__(self, dsn: str) -> None:
        self._writer = Writer(dsn, store.PAIRS, application_name="molecule-grpc-tree")
        self._queue: GroupCommit[store.Parties, store.Pair | None] = GroupCommit(
            "pairs", lambda batch: store.pairs(self._writer, batch)
        )

    async def __aenter__(self) -> Self:
        await self._writer.open()
        await self._queue.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._queue.stop()
        await self._writer.close()

    async def get(self, source: UUID, target: UUID) -> store.Pair | None:
        """Two workspaces, removed or not; None when there is no target."""
        return await self._queue.submit(store.Parties(source, target))
