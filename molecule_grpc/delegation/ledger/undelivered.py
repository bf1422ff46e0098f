"""Delegations whose inbox item will never be acted on: they fail, and their callers are told."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.delegation.inbox.store.acks import MAX_FAILURES
from molecule_grpc.delegation.ledger.moves import Moves


class Undelivered:
    """What the inbox reports to the ledger: it implements `OnPoisoned` and `OnExpired`."""

    def __init__(self, moves: Moves, *, unread_days: int) -> None:
        self._moves = moves
        self._unread_days = unread_days

    async def poisoned(self, workspace_id: UUID, delegation_id: str) -> None:
        """The item that carried this delegation was set aside after five failed deliveries."""
        error = f"the item that carried this task failed {MAX_FAILURES} times"
        await self._moves.fail(workspace_id, delegation_id, error=error, reason="poisoned")

    async def expired(self, workspace_id: UUID, delegation_id: str) -> None:
        """The item that carried this delegation left the inbox unread at its greatest age."""
        error = f"not read within {self._unread_days} days"
        await self._moves.fail(workspace_id, delegation_id, error=error, reason="exhausted")
