"""What the slice needs of others: the secret by which a model is chosen."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from molecule_grpc.runtimes import Model


class ModelSecret(Protocol):
    """The model that somebody has chosen by a secret."""

    async def chosen(self, workspace_id: UUID) -> Model | None:
        """The nearest owner's choice; None where nobody has chosen. Raises `Conflict`."""
        ...

    async def choose(self, workspace_id: UUID, model: str) -> None:
        """Choose for one workspace; empty withdraws its choice. A running agent is restarted.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Exhausted: QUOTA_EXCEEDED.
            Conflict: SECRETS_KEY_MISSING.
        """
        ...
