"""What follows from a changed secret: the agents that are started with it are started again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.secrets.owner import Owner
from molecule_grpc.secrets.ports import Restarts
from molecule_grpc.secrets.store import rollouts

NAME: Final = "secret-rollouts"
# Workspaces that one transaction restarts.
_BATCH: Final = 100


class Changes:
    """Restarts agents: that of one workspace at once, those who share a secret in batches."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._restarts: Restarts | None = None
        self._nudge: Callable[[], None] = lambda: None

    def restarts_by(self, restarts: Restarts) -> None:
        """Name whoever starts agents again. Without one nothing follows from a change."""
        if restarts.can_start:
            self._restarts = restarts

    def rolls_out_by(self, nudge: Callable[[], None]) -> None:
        """Name what makes `roll_out` run soon."""
        self._nudge = nudge

    async def note(self, conn: Connection, owner: Owner, key: str) -> None:
        """A secret changes in this transaction."""
        if self._restarts is None:
            return
        if owner.workspace_id is None:
            await rollouts.begin(conn, owner, key)
        else:
            await self._restarts.environment_changed(conn, [owner.workspace_id])

    def announce(self, owner: Owner) -> None:
        """The transaction is committed."""
        if self._restarts is None:
            return
        if owner.workspace_id is None:
            self._nudge()
        else:
            self._restarts.announce()

    async def roll_out(self) -> None:
        """Restart who inherits a changed secret; ends when no rollout is left to take."""
        while self._restarts is not None and await self._batch(self._restarts):
            pass

    async def _batch(self, restarts: Restarts) -> bool:
        """One transaction of a rollout; False when there is none to take."""
        async with self._pool.acquire() as conn, conn.transaction():
            rollout = await rollouts.take(conn)
            if rollout is None:
                return False
            found = await rollouts.concerned(conn, rollout, _BATCH)
            await restarts.environment_changed(conn, found)
            if len(found) < _BATCH:
                await rollouts.end(conn, rollout)
            else:
                await rollouts.advance(conn, rollout, found[-1])
        restarts.announce()
        return True
