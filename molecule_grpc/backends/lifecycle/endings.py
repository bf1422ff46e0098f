"""What follows from the end of an operation for a workspace that hibernates."""

from __future__ import annotations

from molecule_grpc.backends.lifecycle.ports import VerbRows
from molecule_grpc.backends.operations.rules import Kind, State
from molecule_grpc.backends.operations.values import Ending, Operation
from molecule_grpc.db.pool import Connection


async def hibernated_after(
    rows: VerbRows, conn: Connection, operation: Operation, ending: Ending
) -> None:
    """A workspace whose stop has succeeded is hibernated, unless something woke it meanwhile.

    Whoever asked for the stop: two that ask while it waits share one operation.
    """
    if operation.kind is Kind.STOP and ending.state is State.SUCCEEDED:
        await rows.stopped(conn, operation.workspace_id)
