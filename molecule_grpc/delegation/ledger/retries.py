"""Trying a delegation again that ended badly, on behalf of an operator."""

from __future__ import annotations

import json
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.ledger.ports import OnQueued
from molecule_grpc.delegation.ledger.rules import RETRIABLE, Status, request_hash
from molecule_grpc.delegation.ledger.store import keys, views
from molecule_grpc.delegation.ledger.store.accept import DelegationDraft
from molecule_grpc.delegation.ledger.store.views import EndedDelegation
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.delegation.record.a2a import text_of
from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.kernel.errors import Aborted, Conflict, NotFound
from molecule_grpc.kernel.ids import new_id

# A failed earlier retry is released on the first try and replaced on the second.
_TRIES = 2


class Retries:
    """Hands tasks of failed and stuck delegations over again."""

    def __init__(self, pool: Pool, writes: LedgerWrites, on_queued: OnQueued) -> None:
        self._pool = pool
        self._writes = writes
        self._on_queued = on_queued

    async def retry(self, delegation_id: str, organization_id: UUID | None) -> str:
        """Hand the task over again as a new delegation; the new id.

        An end is final, so the old delegation stays as it is. A second call for the same one
        returns the first retry, unless that retry has ended badly too.

        Args:
            organization_id: whose delegations are visible; None sees all.

        Raises:
            NotFound: DELEGATION_NOT_FOUND: no such delegation is visible.
            Aborted: INVALID_TRANSITION: the delegation is neither failed nor stuck.
            Conflict: retention has deleted the task, or a party was purged.
        """
        ended = await views.for_retry(self._pool, delegation_id, organization_id)
        if ended is None:
            raise NotFound("delegation not found", reason="DELEGATION_NOT_FOUND")
        if ended.status not in RETRIABLE:
            raise Aborted(
                f"only a failed or stuck delegation can be retried, this one is {ended.status}",
                reason="INVALID_TRANSITION",
                metadata={"from": ended.status, "to": Status.QUEUED},
            )
        if not ended.parties_there:
            raise Conflict("the caller or the callee of the delegation was purged")
        draft = _draft(delegation_id, ended)
        for _ in range(_TRIES):
            if await self._writes.accept(draft):
                if draft.queue_id is not None:
                    self._on_queued(draft.callee_id)
                return draft.delegation_id
            taken = await views.key_holder(self._pool, draft)
            if taken is not None and taken.status not in RETRIABLE:
                return taken.delegation_id
            async with self._pool.acquire() as conn:
                await keys.release_key(conn, draft)
        raise Aborted("the delegation is being retried by somebody else, look again")


def _draft(delegation_id: str, ended: EndedDelegation) -> DelegationDraft:
    """The same task under a new id, whose key names the old delegation."""
    if ended.request_body is None:
        raise Conflict("the task is no longer on record")
    body = json.loads(ended.request_body)
    retry_id = str(new_id())
    body["id"] = retry_id
    body["params"]["message"] |= {
        "messageId": retry_id,
        "metadata": {"delegation_id": retry_id},
    }
    text = json.dumps(body, separators=(",", ":"))
    return DelegationDraft(
        delegation_id=retry_id,
        caller_id=ended.caller_id,
        callee_id=ended.callee_id,
        organization_id=ended.organization_id,
        task_preview=ended.task_preview,
        status=Status.QUEUED,
        idempotency_key=f"{PLATFORM}retry:{delegation_id}",
        request_hash=request_hash(ended.callee_id, text_of(body)),
        deadline_seconds=ended.deadline_seconds,
        audit_id=new_id(),
        item_id=new_id(),
        request_body=text,
        bytes=len(text.encode()),
        exempt=True,
        max_attempts=ended.max_attempts,
        retry_backoff_seconds=ended.retry_backoff_seconds,
        retry_of=delegation_id,
        queue_id=new_id() if ended.pushed else None,
    )
