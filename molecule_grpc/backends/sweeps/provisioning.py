"""Fails workspaces whose agent did not register in time, with a reason that says what was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from molecule_grpc.backends.contract.failures import BackendFailure
from molecule_grpc.backends.contract.workloads import Resource, Running, Status, Unknown
from molecule_grpc.backends.deaths import how_it_ended
from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.backends.last_output import last_output, with_output
from molecule_grpc.backends.operations.queue import Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.backends.operations.store import live
from molecule_grpc.backends.sweeps.paging import over_pages
from molecule_grpc.backends.sweeps.ports import Late, SweepRows
from molecule_grpc.db.pool import Pool
from molecule_grpc.directory import Managed

log = structlog.get_logger(__name__)

NAME: Final = "provision-timeout-sweep"


class ProvisionSweep:
    """Ends starts that lead to nothing. Time in the queue of operations does not count.

    Args:
        announce: wakes the runners of operations, after a commit.
    """

    def __init__(
        self, pool: Pool, rows: SweepRows, dispatch: Dispatch, announce: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._rows = rows
        self._dispatch = dispatch
        self._announce_runners = announce

    async def sweep(self) -> None:
        """Fail those that took too long by now."""
        await over_pages(NAME, self._rows.late, lambda row: row.workspace.id, self._page)

    async def _page(self, rows: Sequence[Late]) -> None:
        ids = [row.workspace.id for row in rows]
        busy = await live.busy(self._pool, ids)
        starts = await live.last_starts(self._pool, ids)
        for row in rows:
            workspace, start = row.workspace, starts.get(row.workspace.id)
            if workspace.id in busy:
                continue
            if start is not None and start.age is not None and start.age < row.seconds:
                continue
            try:
                reason = await self._reason(workspace, row.seconds, attempted=start is not None)
                await self._fail(workspace, reason, row.seconds)
            except Exception:
                log.exception("a late workspace was left alone", workspace_id=str(workspace.id))

    async def _reason(self, workspace: Managed, seconds: int, *, attempted: bool) -> str:
        if not workspace.backend:
            what = "nothing was started" if attempted else "no start was ever attempted"
            if not self._dispatch.can_start:
                what = "no compute backend is configured on this server, so nothing was started"
            return f"{what}, and no agent registered within {seconds} s"
        resource = Resource(workspace_id=workspace.id, resource_id=workspace.resource_id)
        try:
            found = await self._dispatch.status(workspace.backend, resource)
        except BackendFailure as failed:
            found = Unknown(failed.public)
        output = await last_output(self._dispatch, workspace.backend, resource)
        return with_output(reason_of(found, workspace.backend, seconds), output)

    async def _fail(self, workspace: Managed, reason: str, seconds: int) -> None:
        async with self._pool.acquire() as conn, conn.transaction():
            if not await self._rows.hold_all(conn, [workspace.id]):
                return
            if await live.busy(conn, [workspace.id]):
                return
            if not await self._rows.fail_late(conn, workspace.id, reason, seconds):
                return
            if workspace.backend:
                # A failed workspace holds nothing.
                stop = Wanted(workspace.id, workspace.organization_id, Kind.STOP, NAME)
                await enqueue(conn, [stop])
        log.warning(
            "an agent did not register in time",
            workspace_id=str(workspace.id),
            backend=workspace.backend,
            seconds=seconds,
        )
        self._rows.announce()
        self._announce_runners()


def reason_of(found: Status, backend: str, seconds: int) -> str:
    """Why a workspace is failed whose agent did not register, by what its engine says."""
    late = f"no agent registered within {seconds} s"
    if isinstance(found, Running):
        return f"the workload runs on the backend {backend}, but {late}"
    if isinstance(found, Unknown):
        return f"{late}, and the backend {backend} does not say whether the workload runs"
    return f"{how_it_ended(found)}, and {late}"
