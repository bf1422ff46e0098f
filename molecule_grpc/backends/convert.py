"""Values to responses."""

from __future__ import annotations

from moleculeai.workspace.v1 import operation_pb2

from molecule_grpc.backends.operations.values import Past
from molecule_grpc.kernel.protos import timestamp


def operation(row: Past, *, administers: bool) -> operation_pb2.Operation:
    """An operation; the backend's own names are for administrators."""
    return operation_pb2.Operation(
        id=str(row.id),
        workspace_id=str(row.workspace_id),
        kind=operation_pb2.Operation.Kind.Value(row.kind),
        state=operation_pb2.Operation.State.Value(row.state),
        source=row.source,
        backend=row.backend,
        attempt=row.attempt,
        cancel_requested=row.cancel_requested,
        reason=row.reason,
        message=row.message,
        created_at=timestamp(row.created_at),
        started_at=timestamp(row.started_at),
        ended_at=timestamp(row.ended_at),
        resource_id=row.resource_id if administers else "",
    )
