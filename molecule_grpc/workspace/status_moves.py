"""Moves that others make in transactions of their own: backends, and the verbs of operators."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.workspace.status import AUTO_RESTARTED, DIED, EVENTS, PROVISION_FAILED
from molecule_grpc.workspace.store import moves

# A started workload registers anew, and knows of no task that the one before had.
_RESTART: Final = moves.move_statement(
    AUTO_RESTARTED,
    also=", provisioning_started_at = now(), url = '', active_tasks = 0, current_task = ''",
)


class StatusMoves:
    """Each answers which of the workspaces moved; those in other states stay as they are."""

    async def provision_failed(
        self,
        conn: Connection,
        workspace_ids: Collection[UUID],
        reason: str,
        missing: Sequence[str] = (),
    ) -> list[UUID]:
        """From `provisioning` to `failed`, with the reason.

        Args:
            missing: variables that the agent needs and that are not set, for the event.
        """
        if not workspace_ids:
            return []
        return await moves.fail(conn, PROVISION_FAILED, workspace_ids, reason, missing)

    async def lost(self, conn: Connection, workspace_ids: Collection[UUID]) -> list[UUID]:
        """From `online` or `degraded` to `offline`: nothing runs any more."""
        return await moves.move(conn, DIED, workspace_ids)

    async def restarted(self, conn: Connection, workspace_ids: Collection[UUID]) -> list[UUID]:
        """To `provisioning`: the workload is started again."""
        rows = await conn.fetch(_RESTART, list(workspace_ids), EVENTS[AUTO_RESTARTED.target])
        return [row["workspace_id"] for row in rows]
