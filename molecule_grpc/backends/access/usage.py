"""What workloads use, and what the machines under them print."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.backends.access import refusals
from molecule_grpc.backends.access.ports import AccessRows
from molecule_grpc.backends.access.targets import Targets
from molecule_grpc.backends.contract.entering import Usage
from molecule_grpc.backends.contract.names import Capability
from molecule_grpc.directory import Managed
from molecule_grpc.kernel.budget import Budget
from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.kernel.page import Page, page_of
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.kernel.payer import OPERATOR_PAYS, payer

_SECONDS: Final = 10.0
_DEFAULT_LISTED: Final = 50
_LISTING: Final = "workspace stats"
# Of one worker: an engine measures each for a second, all at once.
_AT_ONCE: Final = 32
_FIRST: Final = UUID(int=0)


class Measured(NamedTuple):
    """What a workload uses; `error` says why that is not known."""

    workspace: Managed
    usage: Usage | None
    error: str = ""


class Measurements:
    """Measures workloads, and reads consoles.

    Args:
        budget: what reaches into workspaces at once; a list counts once.
    """

    def __init__(
        self, targets: Targets, rows: AccessRows, page_tokens: PageTokens, budget: Budget
    ) -> None:
        self._targets = targets
        self._rows = rows
        self._page_tokens = page_tokens
        self._budget = budget
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def of(self, workspace_id: UUID) -> Measured:
        """One workload. Raises as `Targets.find`, and what the backend says."""
        workspace = await self._rows.look(workspace_id)
        if workspace is None:
            raise refusals.no_workspace()
        with self._budget.use(1, **(payer.get() or OPERATOR_PAYS).keys):
            return Measured(workspace, await self._usage(workspace))

    async def of_all(self, within: UUID | None, *, limit: int, page_token: str) -> Page[Measured]:
        """Workloads that should run, in id order.

        Args:
            within: the only organisation whose workspaces are meant; None for all.

        Raises:
            Invalid: the page token is not one of ours.
        """
        parts = self._page_tokens.read(_LISTING, page_token, UUID)
        after = _FIRST if parts is None else UUID(str(parts[0]))
        limit = limit or _DEFAULT_LISTED
        rows = await self._rows.running_in(within, after=after, limit=limit + 1)
        page = page_of(rows, limit=limit)
        with self._budget.use(1, **(payer.get() or OPERATOR_PAYS).keys):
            measured = await asyncio.gather(*map(self._tried, page.rows))
        return Page(list(measured), page.more)

    def token_after(self, measured: Measured) -> str:
        """The token of the page that begins behind a workspace."""
        return self._page_tokens.make(_LISTING, measured.workspace.id)

    async def console(self, workspace_id: UUID) -> str:
        """What the machine printed. Raises as `Targets.find`, and what the backend says."""
        target = await self._targets.find(workspace_id, Capability.CONSOLE)
        with (
            self._budget.use(1, **(payer.get() or OPERATOR_PAYS).keys),
            refusals.translated(),
        ):
            return await target.backend.console(target.resource, deadline=_SECONDS)

    async def _tried(self, workspace: Managed) -> Measured:
        async with self._turns:
            try:
                return Measured(workspace, await self._usage(workspace))
            except MoleculeError as error:
                return Measured(workspace, None, error.message)

    async def _usage(self, workspace: Managed) -> Usage:
        target = self._targets.of(workspace, Capability.STATS)
        with refusals.translated():
            return await target.backend.stats(target.resource, deadline=_SECONDS)
