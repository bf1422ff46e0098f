"""The secret by which somebody chooses a model."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.runtimes import MODEL_SECRET, Model
from molecule_grpc.secrets.owner import Owner
from molecule_grpc.secrets.secrets import Secrets


class ModelChoice:
    """Reads and writes the secret MODEL_PROVIDER."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    async def chosen(self, workspace_id: UUID) -> Model | None:
        """The nearest owner's choice; None where nobody has chosen.

        Raises:
            Conflict: SECRETS_KEY_MISSING or SECRET_UNREADABLE.
        """
        found = await self._secrets.nearest(workspace_id, MODEL_SECRET)
        return None if found is None else Model(found[0], f"{found[1]}_secrets")

    async def choose(self, workspace_id: UUID, model: str) -> None:
        """Choose for one workspace; empty withdraws its choice, and that of nobody is withdrawn.

        Raises:
            NotFound, Exhausted, Conflict: as `Secrets.set`.
        """
        owner = Owner(workspace_id=workspace_id)
        if model:
            await self._secrets.set(owner, MODEL_SECRET, model)
            return
        try:
            await self._secrets.delete(owner, MODEL_SECRET)
        except NotFound:
            return
