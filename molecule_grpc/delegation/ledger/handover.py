"""Handing work over: accepting a task for another workspace, or recording one handed over."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.ledger.ports import OnQueued
from molecule_grpc.delegation.ledger.rules import (
    DEFAULT_DEADLINE_SECONDS,
    DEFAULT_RETRY_BACKOFF_SECONDS,
    Status,
    request_hash,
)
from molecule_grpc.delegation.ledger.store import keys, views
from molecule_grpc.delegation.ledger.store.accept import DelegationDraft
from molecule_grpc.delegation.ledger.store.views import DelegationRow
from molecule_grpc.delegation.ledger.watch import Watch
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.delegation.record.a2a import message_body
from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.directory import ASLEEP, Directory, WorkspaceInfo
from molecule_grpc.kernel.deadlines import ANSWER_SECONDS
from molecule_grpc.kernel.errors import Aborted, Invalid, Unavailable
from molecule_grpc.kernel.ids import identifier, new_id
from molecule_grpc.kernel.text import clean, cut_bytes

_ACCEPT_TRIES = 4


class Handover(NamedTuple):
    """A task on its way from one workspace to another.

    Args:
        idempotency_key: tells a repeat from a new task, for 24 hours; empty for none.
        deadline_seconds: the delegation fails when it has not ended by then.
        max_attempts: how often the task is handed over at most.
        retry_backoff_seconds: pause before the second attempt; it doubles with each further one.
        wait_seconds: how long to wait for the end; 0 to return at once.
        remaining: seconds until the caller gives up; None when it waits for ever.
    """

    source: UUID
    target: UUID
    task: str
    idempotency_key: str = ""
    deadline_seconds: int = DEFAULT_DEADLINE_SECONDS
    max_attempts: int = 1
    retry_backoff_seconds: int = DEFAULT_RETRY_BACKOFF_SECONDS
    wait_seconds: float = 0.0
    remaining: float | None = None


class HandedOver(NamedTuple):
    """A delegation that is in the ledger.

    Args:
        earlier: whether an earlier call with the same key had made it.
        delegation: as it is after the wait; None for a new one without a wait.
    """

    delegation_id: str
    earlier: bool
    delegation: DelegationRow | None


class Handovers:
    """Enters delegations into the ledger.

    Args:
        wake: begins to start a hibernated callee, before the task for it is accepted.
    """

    def __init__(
        self,
        pool: Pool,
        writes: LedgerWrites,
        watch: Watch,
        directory: Directory,
        on_queued: OnQueued,
        wake: Callable[[UUID], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._writes = writes
        self._watch = watch
        self._directory = directory
        self._on_queued = on_queued
        self._wake = wake

    async def delegate(self, handover: Handover, *, authorization: str | None) -> HandedOver:
        """Accept a task, and maybe wait for its end. The task is committed when this returns.

        Args:
            authorization: the header that the caller sent; a wait ends when its token is revoked.

        Raises:
            Invalid: SELF_DELEGATION, or a key that is not the caller's to choose.
            NotFound: WORKSPACE_NOT_FOUND.
            Denied: NOT_RELATED.
            Aborted: IDEMPOTENCY_MISMATCH: the key was used for another task.
            Exhausted: INBOX_FULL or QUOTA_EXCEEDED.
            Unauthenticated: the token was revoked during the wait.
        """
        give_up = None if handover.remaining is None else time.monotonic() + handover.remaining
        draft = await self._draft(handover)
        earlier = await self._accept(draft)
        if draft.queue_id is not None and earlier is None:
            self._on_queued(draft.callee_id)
        delegation_id = earlier or draft.delegation_id
        if earlier is None and not handover.wait_seconds:
            return HandedOver(delegation_id, earlier=False, delegation=None)
        until = time.monotonic() + handover.wait_seconds
        if give_up is not None:
            until = min(until, give_up - ANSWER_SECONDS)
        found = await self._watch.wait(
            handover.source, delegation_id, until=until, authorization=authorization
        )
        return HandedOver(delegation_id, earlier is not None, found)

    async def record(self, source: UUID, target: UUID, task: str, delegation_id: str) -> str:
        """Enter a task that the agent handed over by itself, as `dispatched`; its id as stored.

        The same id again by the same caller changes nothing.

        Raises:
            Invalid: SELF_DELEGATION, or an id that cannot be one.
            NotFound: WORKSPACE_NOT_FOUND.
            Denied: NOT_RELATED.
            Aborted: DELEGATION_ID_TAKEN: another caller of the organisation uses this id.
        """
        task = clean(task)
        identifier(delegation_id, "delegation_id")
        target_info = await self._require_target(source, target)
        draft = DelegationDraft(
            delegation_id=delegation_id,
            caller_id=source,
            callee_id=target,
            organization_id=target_info.organization_id,
            task_preview=cut_bytes(task),
            status=Status.DISPATCHED,
            idempotency_key=None,
            request_hash=request_hash(target, task),
            deadline_seconds=DEFAULT_DEADLINE_SECONDS,
            audit_id=new_id(),
            item_id=None,
            request_body="null",
            bytes=0,
        )
        if not await self._writes.accept(draft):
            taken = await views.id_holder(self._pool, draft)
            if taken is None or taken.caller_id != source:
                raise Aborted(
                    "this delegation_id is taken",
                    reason="DELEGATION_ID_TAKEN",
                    metadata={"delegation_id": delegation_id},
                )
        return delegation_id

    async def _draft(self, handover: Handover) -> DelegationDraft:
        """The rows of a new delegation. Raises when the source may not hand work to the target."""
        task = clean(handover.task)
        key = identifier(handover.idempotency_key, "idempotency_key") or None
        if key is not None and key.startswith(PLATFORM):
            raise Invalid(
                f"idempotency_key must not begin with {PLATFORM}", field="idempotency_key"
            )
        target_info = await self._require_target(handover.source, handover.target)
        if target_info.status in ASLEEP:
            await self._wake(target_info.id)
        delegation_id = str(new_id())
        body = json.dumps(message_body(delegation_id, task), separators=(",", ":"))
        return DelegationDraft(
            delegation_id=delegation_id,
            caller_id=handover.source,
            callee_id=handover.target,
            organization_id=target_info.organization_id,
            task_preview=cut_bytes(task),
            status=Status.QUEUED,
            idempotency_key=key,
            request_hash=request_hash(handover.target, task),
            deadline_seconds=handover.deadline_seconds,
            audit_id=new_id(),
            item_id=new_id(),
            request_body=body,
            bytes=len(body.encode()),
            max_attempts=handover.max_attempts,
            retry_backoff_seconds=handover.retry_backoff_seconds,
            queue_id=new_id() if target_info.delivery_mode != "poll" else None,
        )

    async def _require_target(self, source: UUID, target: UUID) -> WorkspaceInfo:
        if source == target:
            raise Invalid(
                "self-delegation not permitted", field="target_id", reason="SELF_DELEGATION"
            )
        return await self._directory.require_reachable(source, target)

    async def _accept(self, draft: DelegationDraft) -> str | None:
        """Accept; the id of the earlier delegation when the key was used for the same content."""
        for _ in range(_ACCEPT_TRIES):
            if await self._writes.accept(draft):
                return None
            taken = await views.key_holder(self._pool, draft)
            if taken is None or draft.idempotency_key is None:
                continue  # the key was freed meanwhile
            if taken.status == Status.FAILED or taken.old:
                async with self._pool.acquire() as conn:
                    await keys.free_key(conn, draft)
                continue
            if taken.request_hash != draft.request_hash:
                raise Aborted(
                    "this idempotency_key was used for another task",
                    reason="IDEMPOTENCY_MISMATCH",
                    metadata={"delegation_id": taken.delegation_id},
                )
            return taken.delegation_id
        raise Unavailable("the idempotency_key is contended, try again", retry_after=1)
