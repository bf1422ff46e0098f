"""The end of an operation, in one transaction with the workspace's status move."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog

from molecule_grpc.backends import metrics
from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.operations.rules import State
from molecule_grpc.backends.operations.store import runs
from molecule_grpc.backends.operations.values import Ending, Operation
from molecule_grpc.backends.ports import StatusMoves
from molecule_grpc.db.pool import Connection, Pool

log = structlog.get_logger(__name__)

# Called in the transaction that ends an operation, for every end but another try.
OnEnded: TypeAlias = Callable[[Connection, Operation, Ending], Awaitable[None]]


class Endings:
    """Ends operations.

    Args:
        owner: of the operations that may be ended.
        moves: status moves of workspaces.
        tell_readers: wakes the readers of the feed of events.
    """

    def __init__(
        self, pool: Pool, owner: str, moves: StatusMoves, tell_readers: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._owner = owner
        self._moves = moves
        self._tell_readers = tell_readers
        self._subscribers: list[OnEnded] = []

    def on_ended(self, subscriber: OnEnded) -> None:
        """Call in the transaction that ends an operation. An error undoes the end."""
        self._subscribers.append(subscriber)

    async def end(self, operation: Operation, ending: Ending, backend: str) -> bool:
        """End an operation. False where another worker has taken it over.

        Args:
            backend: where it was tried.
        """
        async with self._pool.acquire() as conn, conn.transaction():
            if not await runs.end(conn, self._owner, operation, ending):
                return False
            if operation.kind.starts:
                await self._end_start(conn, operation, ending, backend)
            elif ending.state is State.SUCCEEDED:
                await runs.note_stop(conn, operation)
            if ending.again_after is None:
                for subscriber in self._subscribers:
                    await subscriber(conn, operation, ending)
        self._tell_readers()
        _count(operation, ending, backend)
        return True

    async def _end_start(
        self, conn: Connection, operation: Operation, ending: Ending, backend: str
    ) -> None:
        if ending.started is not None:
            await runs.note_start(conn, operation, ending.started, backend)
        if ending.state is State.FAILED:
            await self._moves.provision_failed(
                conn, [operation.workspace_id], ending.message, ending.missing
            )


def _count(operation: Operation, ending: Ending, backend: str) -> None:
    series = metrics.STARTS if operation.kind.starts else metrics.STOPS
    outcome = metrics.SUCCEEDED if ending.state is State.SUCCEEDED else ending.reason
    name = BackendName(backend or BackendName.NONE)
    if (counter := series.get((name, outcome))) is not None:
        counter.inc()
    log.info(
        "an operation has ended",
        workspace_id=str(operation.workspace_id),
        operation_id=str(operation.id),
        kind=operation.kind,
        source=operation.source,
        backend=name,
        outcome=outcome,
        attempt=operation.attempt,
    )
