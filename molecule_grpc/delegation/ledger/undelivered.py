"""Delegations whose inbox item will never be acted on: they fail, and their callers are told."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.delegation.inbox.store.acks import MAX_FAILURES
from molecule_grpc.delegation.inbox.store.retention import UNDONE_DAYS
from molecule_grpc.delegation.ledger.moves import Moves


class Undelivered:
    """What the inbox reports to the ledger: it implements `OnPoisoned` and `OnExpired`."""

    def __init__(self, moves: Moves) -> None:
        self._moves = moves

    async def poisoned(self, workspace_id: UUID, delegation_id: str) -> None:
        """The item that carried this delegation was set aside after five failed deliveries."""
        error = f"the item that carried this task failed {MAX_FAILURES} times"
        await self._moves.fail(workspace_id, delegation_id, error=error, reason="poisoned")

    async def expired(self, workspace_id: UUID, delegation_id: str) -> None:
        """The item that carried this delegation left the inbox unread after 30 days."""
        error = f"not read within {UNDONE_DAYS} days"
        await self._moves.fail(workspace_id, delegation_id, error=error, reason="exhausted")
