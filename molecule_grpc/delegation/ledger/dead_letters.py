"""What operators do with work that failed: look at it, send it again, or let it go."""

from __future__ import annotations

import json
from datetime import datetime
from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.delegation.inbox.store import dead_letters
from molecule_grpc.delegation.ledger import rules
from molecule_grpc.delegation.ledger.store import ledger
from molecule_grpc.delegation.ledger.store import views as ledger_views
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.delegation.outbound.due import DueWorkspaces
from molecule_grpc.delegation.record.a2a import text_of
from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.kernel.errors import Aborted, Conflict, NotFound
from molecule_grpc.kernel.ids import new_id


class DeadLetters:
    """Poison items and failed delegations, for the admin slice.

    `organization_id` None is the operator, who sees all of them.
    """

    def __init__(
        self, pool: Pool, writes: LedgerWrites, wakeups: Wakeups, due_workspaces: DueWorkspaces
    ) -> None:
        self._pool = pool
        self._writes = writes
        self._wakeups = wakeups
        self._due_workspaces = due_workspaces

    async def list_rows(
        self,
        *,
        organization_id: UUID | None,
        workspace_id: UUID | None,
        before: tuple[datetime, UUID, int] | None,
        limit: int,
    ) -> list[asyncpg.Record]:
        """Items that were set aside, newest first; None leaves a filter out."""
        page = dead_letters.DeadLetterQuery(organization_id, workspace_id, before, limit)
        return await dead_letters.list_rows(self._pool, page)

    async def drop(self, workspace_id: UUID, seq: int, organization_id: UUID | None) -> None:
        """Take an item off the list. Raises `NotFound` when it is not on it."""
        async with self._pool.acquire() as conn:
            if not await dead_letters.drop(conn, workspace_id, seq, organization_id):
                raise _not_found()

    async def replay(self, workspace_id: UUID, seq: int, organization_id: UUID | None) -> int:
        """Send an item again; its new number. Raises `NotFound` when it is not on the list."""
        async with self._pool.acquire() as conn, conn.transaction():
            again = await dead_letters.replay(conn, workspace_id, seq, organization_id)
            if again is None:
                raise _not_found()
        self._wakeups.wake([workspace_id])
        return again

    async def retry(self, delegation_id: str, organization_id: UUID | None) -> str:
        """Try a delegation again that ended as failed or stuck, as a new one; its id.

        An end is final, so the old one stays as it is. A second call for the same one returns the
        first retry, unless that one failed too.

        Raises:
            NotFound: no such delegation is visible.
            Aborted: it has not failed.
            Conflict: its task is no longer on record.
        """
        row = await ledger_views.for_retry(self._pool, delegation_id, organization_id)
        if row is None:
            raise NotFound("delegation not found", reason="DELEGATION_NOT_FOUND")
        if row["status"] not in (rules.Status.FAILED, rules.Status.STUCK):
            raise Aborted(
                f"only a failed or stuck delegation can be retried, this one is {row['status']}",
                reason="INVALID_TRANSITION",
                metadata={"from": row["status"], "to": "queued"},
            )
        if row["request_body"] is None:
            raise Conflict("the task is no longer on record")
        body = json.loads(row["request_body"])
        retry_id = str(new_id())
        body["id"] = retry_id
        body["params"]["message"] |= {
            "messageId": retry_id,
            "metadata": {"delegation_id": retry_id},
        }
        text = json.dumps(body, separators=(",", ":"))
        draft = ledger.DelegationDraft(
            delegation_id=retry_id,
            caller_id=row["caller_id"],
            callee_id=row["callee_id"],
            organization_id=row["organization_id"],
            task_preview=row["task_preview"],
            status=rules.Status.QUEUED,
            idempotency_key=f"{PLATFORM}retry:{delegation_id}",
            request_hash=rules.request_hash(row["callee_id"], text_of(body)),
            deadline_seconds=row["deadline_seconds"],
            audit_id=new_id(),
            item_id=new_id(),
            request_body=text,
            bytes=len(text.encode()),
            exempt=True,
            max_attempts=row["max_attempts"],
            retry_backoff_seconds=row["retry_backoff_seconds"],
            retry_of=delegation_id,
            queue_id=new_id() if row["pushed"] else None,
        )
        for _ in range(2):
            if await self._writes.accept(draft):
                if draft.queue_id is not None:
                    self._due_workspaces.add(draft.callee_id)
                return retry_id
            _, taken = await ledger_views.find_taken(self._pool, draft)
            if taken is not None and taken["status"] not in (
                rules.Status.FAILED,
                rules.Status.STUCK,
            ):
                return str(taken["delegation_id"])
            async with self._pool.acquire() as conn:
                await ledger.release_key(conn, draft)
        raise Aborted("the delegation is being retried by somebody else, look again")


def _not_found() -> NotFound:
    return NotFound("no poisoned item of this number", reason="ITEM_NOT_FOUND")
