"""Use and limits of an organisation and of a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.auth import store as tokens
from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.budgets import Budgets
from molecule_grpc.db.pool import Pool
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.kernel.budget import WORKER
from molecule_grpc.kernel.payer import ORGANIZATION, TOKEN, WORKSPACE
from molecule_grpc.quotas import Quotas, QuotaUse
from molecule_grpc.workspace.refusals import missing
from molecule_grpc.workspace.scope import scope
from molecule_grpc.workspace.status import Status
from molecule_grpc.workspace.store import workspaces
from molecule_grpc.workspace.subscriptions import Subscriptions
from molecule_grpc.workspace.tree.placement import no_organization


class LimitUse(NamedTuple):
    """How much of a limit is used.

    Args:
        of: `organization`, `workspace`, `token` or `worker`.
        limit: 0 for none.
        at_once: whether it bounds what this worker has in use at the moment.
    """

    name: str
    of: str
    used: int
    limit: int
    at_once: bool


class Report(NamedTuple):
    """The limits of an organisation, and of one of its workspaces.

    Args:
        workspace_id: None for the organisation alone.
    """

    organization_id: UUID
    workspace_id: UUID | None
    limits: Sequence[LimitUse]


class QuotaReports:
    """Tells callers where they stand.

    Args:
        subscriptions: asked for what other slices keep.
    """

    def __init__(
        self, pool: Pool, quotas: Quotas, budgets: Budgets, subscriptions: Subscriptions
    ) -> None:
        self._pool = pool
        self._quotas = quotas
        self._budgets = budgets
        self._subscriptions = subscriptions

    async def report(
        self, principal: Principal, organization_id: UUID | None, workspace_id: UUID | None
    ) -> Report:
        """What a caller may see, and wants to see.

        Args:
            organization_id: None for the workspace's or the caller's own; for the operator, the
                default one.
            workspace_id: None for the caller's own, if it is a workspace.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND or ORGANIZATION_NOT_FOUND, also for what the caller may
                not see.
        """
        if principal.workspace_id is not None and workspace_id not in (
            None,
            principal.workspace_id,
        ):
            raise missing()
        workspace_id = workspace_id or principal.workspace_id
        home = await self._home(principal, organization_id, workspace_id)
        uses = await self._own_uses(home, workspace_id)
        uses += await self._subscriptions.uses(home, workspace_id)
        limits = [
            LimitUse(use.quota.name, use.quota.of, use.used, use.quota.limit, at_once=False)
            for use in uses
        ]
        return Report(home, workspace_id, [*limits, *self._at_once(principal, home, workspace_id)])

    async def _home(
        self, principal: Principal, organization_id: UUID | None, workspace_id: UUID | None
    ) -> UUID:
        """The organisation that is asked for."""
        visible = scope(principal)
        if organization_id is not None and visible not in (None, organization_id):
            raise no_organization()
        wanted = organization_id or visible
        if workspace_id is not None:
            row = await workspaces.get(self._pool, workspace_id, wanted)
            if row is None or row.status == Status.REMOVED:
                raise missing()
            return row.organization_id
        home = wanted or DEFAULT_ORGANIZATION
        if not await workspaces.organization_exists(self._pool, home):
            raise no_organization()
        return home

    async def _own_uses(self, organization_id: UUID, workspace_id: UUID | None) -> list[QuotaUse]:
        quotas, pool = self._quotas, self._pool
        uses = [
            QuotaUse(quotas.workspaces, await workspaces.count_live(pool, organization_id)),
            QuotaUse(
                quotas.organization_tokens, await tokens.live_org_tokens(pool, organization_id)
            ),
        ]
        if workspace_id is not None:
            live = await tokens.live_workspace_tokens(pool, workspace_id)
            uses.append(QuotaUse(quotas.workspace_tokens, live))
        return uses

    def _at_once(
        self, principal: Principal, organization_id: UUID, workspace_id: UUID | None
    ) -> list[LimitUse]:
        """What this worker has in use at the moment, of each budget."""
        keys: dict[str, UUID | None] = {ORGANIZATION: organization_id}
        if workspace_id is not None:
            keys[WORKSPACE] = workspace_id
        if principal.token_id is not None:
            keys[TOKEN] = principal.token_id
        if principal.role is Role.OPERATOR:
            keys[WORKER] = None
        return [
            LimitUse(budget.name, use.dimension, use.used, use.limit, at_once=True)
            for budget in self._budgets.all
            for use in budget.uses(**keys)
        ]
