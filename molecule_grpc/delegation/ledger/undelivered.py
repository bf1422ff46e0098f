"""Delegations whose inbox item will never be acted on: they fail, and their callers hear of it."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.delegation.inbox.store.acks import MAX_FAILURES
from molecule_grpc.delegation.inbox.store.retention import UNDONE_DAYS
from molecule_grpc.delegation.ledger.ledger import Ledger
from molecule_grpc.delegation.ledger.rules import Status
from molecule_grpc.delegation.ledger.writes import LedgerWrites


class Undelivered:
    """What the inbox reports to the ledger."""

    def __init__(self, writes: LedgerWrites, ledger_: Ledger) -> None:
        self._writes = writes
        self._ledger = ledger_

    async def poisoned(self, workspace_id: UUID, delegation_id: str) -> None:
        """The item that carried this delegation was set aside after five failed deliveries."""
        error = f"the item that carried this task failed {MAX_FAILURES} times"
        await self._fail(workspace_id, delegation_id, error, reason="poisoned")

    async def expired(self, workspace_id: UUID, delegation_id: str) -> None:
        """The item that carried this delegation left the inbox unread."""
        error = f"not read within {UNDONE_DAYS} days"
        await self._fail(workspace_id, delegation_id, error, reason="exhausted")

    async def _fail(
        self, workspace_id: UUID, delegation_id: str, error: str, *, reason: str
    ) -> None:
        move = self._ledger.draft_move(
            delegation_id, workspace_id, Status.FAILED, error=error, reason=reason
        )
        await self._writes.move(move)
