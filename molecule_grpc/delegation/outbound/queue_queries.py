"""What senders and operators ask of the queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.ledger.ledger import Ledger
from molecule_grpc.delegation.ledger.rules import Status
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.delegation.outbound.callers import source_of
from molecule_grpc.delegation.outbound.store import queue as store
from molecule_grpc.delegation.outbound.store import upkeep
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.kernel.protos import timestamp, value
from molecule_grpc.server.call import Call

_DROPPED = "dropped from the queue by an operator"


class QueueQueries:
    """Answers for the queue."""

    def __init__(self, pool: Pool, writes: LedgerWrites, ledger: Ledger) -> None:
        self._pool = pool
        self._writes = writes
        self._ledger = ledger

    async def get(self, request: pb.GetQueuedMessageRequest, call: Call) -> pb.QueuedMessage:
        """What became of a queued message."""
        source_of("", call)
        row = await store.get(self._pool, UUID(request.workspace_id), UUID(request.queue_id))
        if row is None or not _may_ask(call.principal, row):
            raise NotFound("queued message not found", reason="MESSAGE_NOT_FOUND")
        message = pb.QueuedMessage(
            queue_id=str(row["id"]),
            workspace_id=str(row["workspace_id"]),
            status=row["status"],
            priority=row["priority"],
            attempts=row["attempts"],
            last_error=row["last_error"],
            enqueued_at=timestamp(row["enqueued_at"]),
            dispatched_at=timestamp(row["dispatched_at"]),
            completed_at=timestamp(row["completed_at"]),
            expires_at=timestamp(row["expires_at"]),
            response_body=value(row["response_body"]),
        )
        if row["status"] == "queued":
            message.next_attempt_at.FromDatetime(row["next_attempt_at"])
        return message

    async def drop_stale(
        self, age: timedelta, workspace_id: UUID | None, organization_id: UUID | None
    ) -> int:
        """Let go of messages that have waited so long; how many. None leaves a bound out."""
        stale = upkeep.Stale(datetime.now(UTC) - age, workspace_id, organization_id)
        ended = await upkeep.stale_delegations(self._pool, stale)
        for delegation_id, callee_id in ended:
            move = self._ledger.draft_move(
                delegation_id, callee_id, Status.FAILED, error=_DROPPED, reason="exhausted"
            )
            await self._writes.move(move)
        return await upkeep.drop_stale(self._pool, stale, ended, _DROPPED)


def _may_ask(principal: Principal, row: asyncpg.Record) -> bool:
    match principal.role:
        case Role.OPERATOR:
            return True
        case Role.ORGANIZATION:
            return bool(row["organization_id"] == principal.organization_id)
        case _:
            return principal.workspace_id in (row["workspace_id"], row["caller_id"])
