"""Workspaces whose workload is gone against their rows: started again, within a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from molecule_grpc.backends.operations.queue import Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.backends.operations.store import history
from molecule_grpc.backends.ports import StatusMoves
from molecule_grpc.db.pool import Connection

# An agent that ends so often in so many minutes is failed, instead of started for ever.
MOST_RESTARTS: Final = 5
WITHIN_MINUTES: Final = 10
_FIRST_DELAY_SECONDS: Final = 1.0
# Operations of these sources count as restarts after a loss.
SOURCES: Final = ("reconcile", "health")


async def heal(
    conn: Connection,
    moves: StatusMoves,
    organizations: Mapping[UUID, UUID],
    source: str,
    why: str = "the agent's process was gone",
) -> list[UUID]:
    """Move lost workspaces to `offline`, and start them again: at once, then after 2, 4 and 8 s.

    One that was started again five times in ten minutes is `failed` instead, and stopped. Call with
    the workspaces' rows locked, and wake the runners after the commit. Returns which are started.

    Args:
        organizations: by workspace, whose it is.
        source: one of `SOURCES`.
        why: completes the reason of a failure.
    """
    lost = await moves.lost(conn, list(organizations))
    counts = await history.count_recent(conn, lost, SOURCES, WITHIN_MINUTES)
    moved = await moves.restarted(conn, lost)
    given_up = [each for each in moved if counts.get(each, 0) >= MOST_RESTARTS]
    reason = f"{why}, {MOST_RESTARTS} times within {WITHIN_MINUTES} minutes"
    await moves.provision_failed(conn, given_up, reason)
    await enqueue(
        conn,
        [
            Wanted(each, organizations[each], Kind.STOP, source)
            if each in given_up
            else Wanted(
                each, organizations[each], Kind.RESTART, source, delay=_delay(counts.get(each, 0))
            )
            for each in moved
        ],
    )
    return [each for each in moved if each not in given_up]


def _delay(earlier: int) -> float:
    return _FIRST_DELAY_SECONDS * 2.0**earlier if earlier else 0.0
