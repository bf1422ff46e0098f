"""Which workload a call means, and on which backend: what the row of the workspace says."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple, TypeVar
from uuid import UUID

from molecule_grpc.backends.access import refusals
from molecule_grpc.backends.access.ports import AccessRows
from molecule_grpc.backends.contract.backend import Backend
from molecule_grpc.backends.contract.names import Capability
from molecule_grpc.backends.contract.workloads import Resource
from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.directory import Managed

T = TypeVar("T")


class Target(NamedTuple):
    """A workload, where it runs or is kept."""

    backend: Backend
    resource: Resource


class Targets:
    """Finds workloads."""

    def __init__(self, rows: AccessRows, dispatch: Dispatch) -> None:
        self._rows = rows
        self._dispatch = dispatch

    async def find(self, workspace_id: UUID, capability: Capability) -> Target:
        """The workload of a workspace, on a backend that can do this.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Conflict: RUNTIME_EXTERNAL; WORKLOAD_MISSING: it was never started.
            Unsupported: BACKEND_LACKS.
            Unavailable: BACKEND_UNAVAILABLE: its backend is not configured here.
        """
        found = await self._rows.look(workspace_id)
        if found is None:
            raise refusals.no_workspace()
        return self.of(found, capability)

    def of(self, workspace: Managed, capability: Capability) -> Target:
        """The same for a row. Raises as `find`."""
        if workspace.external:
            raise refusals.external()
        if not workspace.backend:
            raise refusals.nothing_there()
        resource = Resource(workspace_id=workspace.id, resource_id=workspace.resource_id)
        with refusals.translated():
            return Target(*self._dispatch.reach(workspace.backend, resource, capability))


@contextlib.asynccontextmanager
async def closing(pieces: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """What a backend gives piece by piece; it is told at once when nobody reads on."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
