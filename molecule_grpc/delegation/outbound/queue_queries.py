"""What senders and operators ask of the queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.ledger.moves import Moves
from molecule_grpc.delegation.outbound.callers import source_of
from molecule_grpc.delegation.outbound.store import queue as store
from molecule_grpc.delegation.outbound.store import upkeep
from molecule_grpc.kernel.errors import NotFound

_DROPPED = "dropped from the queue by an operator"


class QueueQueries:
    """Reads the queue, and drops from it on an operator's word."""

    def __init__(self, pool: Pool, moves: Moves) -> None:
        self._pool = pool
        self._moves = moves

    async def get(
        self, workspace_id: UUID, queue_id: UUID, principal: Principal, *, claimed_source: str
    ) -> store.QueueEntry:
        """A queued message without the body, for sender, target and their operators.

        Args:
            claimed_source: the workspace that the caller says asks; empty when it says nothing.

        Raises:
            NotFound: MESSAGE_NOT_FOUND: no such message is visible.
            Denied: SOURCE_SPOOFED.
            Unauthenticated: the token is not the claimed source's.
        """
        source_of(claimed_source, principal)
        row = await store.get(self._pool, workspace_id, queue_id)
        if row is None or not _may_ask(principal, row):
            raise NotFound("queued message not found", reason="MESSAGE_NOT_FOUND")
        return row

    async def drop_stale(
        self, age: timedelta, workspace_id: UUID | None, organization_id: UUID | None
    ) -> int:
        """Drop messages that have waited at least this long; how many. Their delegations fail.

        Args:
            workspace_id: whose queue; None for all.
            organization_id: whose queues; None for all.
        """
        stale = upkeep.Stale(datetime.now(UTC) - age, workspace_id, organization_id)
        ended = await upkeep.stale_delegations(self._pool, stale)
        for delegation_id, callee_id in ended:
            await self._moves.fail(callee_id, delegation_id, error=_DROPPED, reason="exhausted")
        return await upkeep.drop_stale(self._pool, stale, ended, _DROPPED)


def _may_ask(principal: Principal, row: store.QueueEntry) -> bool:
    match principal.role:
        case Role.OPERATOR:
            return True
        case Role.ORGANIZATION:
            return row.organization_id == principal.organization_id
        case _:
            return principal.workspace_id in (row.workspace_id, row.caller_id)
