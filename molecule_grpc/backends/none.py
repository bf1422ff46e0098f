"""The backend that runs nothing: agents run elsewhere."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.backends.closed import Closed
from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.names import BackendName, Capability
from molecule_grpc.backends.contract.workloads import (
    Absent,
    Owned,
    Resource,
    Started,
    StartRequest,
    Status,
)

NO_BACKEND = "no compute backend is configured on this server"


class NoBackend(Closed):
    """Nothing runs here, so that nothing can fail to stop; a start fails."""

    name = BackendName.NONE
    capabilities: frozenset[Capability] = frozenset()

    async def start(self, request: StartRequest, *, deadline: float) -> Started:
        raise BackendFailure(FailureReason.NO_BACKEND, NO_BACKEND)

    async def stop(self, resource: Resource, *, deadline: float) -> None:
        return

    async def status(self, resource: Resource, *, deadline: float) -> Status:
        return Absent()

    async def remove_volumes(self, workspace_id: UUID, *, deadline: float) -> None:
        return

    async def list_owned(self, *, deadline: float) -> list[Owned]:
        return []

    async def close(self) -> None:
        return
