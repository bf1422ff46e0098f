"""Workspaces whose workload is gone against their rows: started again, within a limit."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from molecule_grpc.backends.operations.queue import Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.backends.ports import StatusMoves
from molecule_grpc.backends.restart_limits import (
    RECONCILE,
    WITHIN,
    RestartLimits,
    earlier_restarts,
)
from molecule_grpc.db.pool import Connection


async def heal(
    conn: Connection,
    moves: StatusMoves,
    organizations: Mapping[UUID, UUID],
    limits: RestartLimits,
) -> list[UUID]:
    """Move lost workspaces to `offline`, and start them again, each after its pause.

    A workspace that is lost too often is `failed` instead, and stopped. Call with the workspaces'
    rows locked, and wake the runners after the commit. Returns which are started.

    Args:
        organizations: by workspace, whose it is.
    """
    lost = await moves.lost(conn, list(organizations))
    earlier = await earlier_restarts(conn, lost)
    moved = await moves.restarted(conn, lost)
    given_up = [each for each in moved if limits.spent(earlier.get(each, 0))]
    reason = f"the agent's process was gone, {limits.deaths} times {WITHIN}"
    await moves.provision_failed(conn, given_up, reason)
    await enqueue(
        conn,
        [
            Wanted(each, organizations[each], Kind.STOP, RECONCILE)
            if each in given_up
            else Wanted(
                each,
                organizations[each],
                Kind.RESTART,
                RECONCILE,
                delay=limits.pause(earlier.get(each, 0)),
            )
            for each in moved
        ],
    )
    return [each for each in moved if each not in given_up]
