"""The use cases of configuration: settings, model, budget and use of tokens."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.configuration import rules
from molecule_grpc.configuration.ports import ModelSecret
from molecule_grpc.configuration.refusals import missing
from molecule_grpc.configuration.store import settings, usage, workspaces
from molecule_grpc.configuration.store.settings import Settings
from molecule_grpc.configuration.store.usage import UsageRow
from molecule_grpc.configuration.store.workspaces import BudgetRow
from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.runtimes import Model


class Configuration:
    """Reads and changes what a workspace is configured with.

    `within` is the only organisation that the workspace may be of; None for any. Every method
    raises `NotFound` with WORKSPACE_NOT_FOUND for a workspace that is removed or invisible.

    Args:
        secret: the model that somebody has chosen by a secret.
    """

    def __init__(self, pool: Pool, secret: ModelSecret) -> None:
        self._pool = pool
        self._secret = secret

    async def settings(self, workspace_id: UUID, within: UUID | None) -> Settings:
        """What the canvas and its users keep about a workspace, as JSON text."""
        with database_errors():
            found = await settings.get(self._pool, workspace_id, within)
        if found is None:
            raise missing()
        return found

    async def merge(self, workspace_id: UUID, within: UUID | None, text: str) -> None:
        """Set the keys of a JSON object, each to its whole new value, and leave the others.

        Raises:
            Invalid: BODY_TOO_LARGE: more than 256 KiB, or 512 KiB with what is stored.
        """
        rules.check_patch(text)
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                if not await workspaces.hold(conn, [workspace_id], within):
                    raise missing()
                if await settings.merge(conn, workspace_id, text) > rules.MAX_CONFIG_BYTES:
                    raise rules.too_large(rules.MAX_CONFIG_BYTES)

    async def model(self, workspace_id: UUID, within: UUID | None) -> Model:
        """The model that a workspace's agent is started with the next time.

        Raises:
            Conflict: SECRET_UNREADABLE or SECRETS_KEY_MISSING: somebody has chosen, and the choice
                cannot be read.
        """
        with database_errors():
            found = await workspaces.model(self._pool, workspace_id, within)
        if found is None:
            raise missing()
        secret = await self._secret.chosen(workspace_id)
        return rules.model_in_force(secret, found.agent, found.own, found.runtime)

    async def choose_model(self, workspace_id: UUID, within: UUID | None, model: str) -> None:
        """Choose the model of a workspace; empty withdraws the workspace's own choice.

        Raises:
            Invalid: the model has a line break.
            Exhausted, Conflict: as setting a secret.
        """
        rules.check_model(model)
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                if not await workspaces.hold(conn, [workspace_id], within):
                    raise missing()
                if not model:
                    await workspaces.forget_model(conn, workspace_id)
        await self._secret.choose(workspace_id, model)

    async def budget(self, workspace_id: UUID, within: UUID | None) -> BudgetRow:
        """A workspace's monthly limit and its spending of this month, in US cents."""
        with database_errors():
            found = await workspaces.budget(self._pool, workspace_id, within)
        if found is None:
            raise missing()
        return found

    async def limit_budget(
        self, workspace_id: UUID, within: UUID | None, cents: float | None
    ) -> BudgetRow:
        """Limit what a workspace may spend in a month; None lifts the limit.

        Raises:
            Invalid: the limit is negative, or too large.
        """
        limit = rules.check_budget(cents)
        with database_errors():
            found = await workspaces.set_budget(self._pool, workspace_id, within, limit)
        if found is None:
            raise missing()
        return found

    async def usage(self, workspace_id: UUID, within: UUID | None) -> UsageRow:
        """The tokens of a workspace in the present day of UTC."""
        with database_errors():
            found = await usage.today(self._pool, workspace_id, within)
        if found is None:
            raise missing()
        return found
