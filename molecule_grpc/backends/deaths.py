"""Workloads that ended by themselves: the row is told, with what can be known of the end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from molecule_grpc.backends.contract.failures import BackendFailure
from molecule_grpc.backends.contract.workloads import Absent, Resource, Status, Stopped
from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.backends.last_output import last_output, with_output
from molecule_grpc.backends.operations.store import live
from molecule_grpc.backends.ports import DeathRows
from molecule_grpc.db.pool import Pool
from molecule_grpc.directory import Managed

log = structlog.get_logger(__name__)

# Statuses of a workspace whose workload should run.
RUNS: Final = frozenset({"provisioning", "online", "degraded"})


class Deaths:
    """Looks whether workloads still run.

    Args:
        on_death: called after a death is committed: the workspace is to be started again.
    """

    def __init__(
        self, pool: Pool, rows: DeathRows, dispatch: Dispatch, on_death: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._rows = rows
        self._dispatch = dispatch
        self._on_death = on_death

    async def examine(self, workspace: Managed) -> bool:
        """Whether a workload has certainly ended; then the workspace is offline by now.

        An engine that does not answer, and an operation that is at work, are no death.
        """
        if workspace.external or not workspace.backend or workspace.status not in RUNS:
            return False
        if await live.busy(self._pool, [workspace.id]):
            return False
        resource = Resource(workspace_id=workspace.id, resource_id=workspace.resource_id)
        try:
            found = await self._dispatch.status(workspace.backend, resource)
        except BackendFailure:
            return False
        if not isinstance(found, (Stopped, Absent)):
            return False
        output = await last_output(self._dispatch, workspace.backend, resource)
        return await self._note(workspace, with_output(how_it_ended(found), output))

    async def _note(self, workspace: Managed, reason: str) -> bool:
        async with self._pool.acquire() as conn, conn.transaction():
            # Whoever asks for an operation locks the row as well.
            if not await self._rows.hold_all(conn, [workspace.id]):
                return False
            if await live.busy(conn, [workspace.id]):
                return False
            if not await self._rows.die(conn, workspace, reason):
                return False
        log.warning(
            "a workload has ended",
            workspace_id=str(workspace.id),
            backend=workspace.backend,
            reason=reason.partition("\n")[0],
        )
        self._rows.announce()
        self._on_death()
        return True


def how_it_ended(found: Status) -> str:
    """The end of a workload in a sentence for people, without a full stop."""
    if not isinstance(found, Stopped):
        return "the agent's workload is gone"
    if found.oom_killed:
        return "the agent's process was ended because it used more memory than it may"
    if found.signal is not None:
        return f"the agent's process was ended by {_signal_name(found.signal)}"
    if found.exit_code is not None:
        return f"the agent's process ended with exit code {found.exit_code}"
    return "the agent's process ended"


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
