"""Compares workspaces that should run with what their engines say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from molecule_grpc.backends.contract.backend import LIST_SECONDS
from molecule_grpc.backends.contract.failures import BackendFailure
from molecule_grpc.backends.contract.names import Capability
from molecule_grpc.backends.deaths import Deaths
from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.backends.sweeps.paging import over_pages
from molecule_grpc.backends.sweeps.ports import SweepRows
from molecule_grpc.backends.sweeps.turns import take_turn
from molecule_grpc.db.pool import Pool
from molecule_grpc.directory import Managed

log = structlog.get_logger(__name__)

NAME: Final = "health-sweep"
_AT_ONCE: Final = 8


class HealthSweep:
    """Finds workloads that ended by themselves.

    An engine that lists what it runs is asked once for all; only who is missing there is looked at.

    Args:
        period: seconds between two sweeps, of all workers together.
    """

    def __init__(
        self, pool: Pool, rows: SweepRows, dispatch: Dispatch, deaths: Deaths, period: float
    ) -> None:
        self._pool = pool
        self._rows = rows
        self._dispatch = dispatch
        self._deaths = deaths
        self._period = period

    async def sweep(self) -> None:
        """Mark offline whose workload has certainly ended."""
        if not self._dispatch.opened or not await take_turn(self._pool, NAME, self._period):
            return
        alive = await self._alive()
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def look(workspace: Managed) -> None:
            async with at_once:
                try:
                    await self._deaths.examine(workspace)
                except Exception:
                    log.exception("a workspace was not looked at", workspace_id=str(workspace.id))

        async def page(rows: Sequence[Managed]) -> None:
            suspects = [each for each in rows if (each.backend, each.id) not in alive]
            await asyncio.gather(*(look(each) for each in suspects))

        await over_pages(NAME, self._rows.running, lambda row: row.id, page)

    async def _alive(self) -> set[tuple[str, UUID]]:
        """The workspaces of which something runs, by backend, where engines can list it."""
        alive: set[tuple[str, UUID]] = set()
        for backend in self._dispatch.opened:
            if Capability.LIST not in backend.capabilities:
                continue
            try:
                owned = await backend.list_owned(deadline=LIST_SECONDS)
            except BackendFailure as failed:
                log.warning("an engine was not asked", backend=backend.name, why=str(failed))
                continue
            alive.update((str(backend.name), each.workspace_id) for each in owned if each.running)
        return alive
