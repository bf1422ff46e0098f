"""Tasks that a workspace is given by nobody else: fires of its own schedules."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.ledger.ports import OnQueued
from molecule_grpc.delegation.ledger.rules import (
    DEFAULT_DEADLINE_SECONDS,
    Status,
    request_hash,
)
from molecule_grpc.delegation.ledger.store import fires as store
from molecule_grpc.delegation.ledger.store.accept import DelegationDraft
from molecule_grpc.delegation.ledger.store.fires import EndedFire
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.delegation.record.a2a import message_body
from molecule_grpc.directory import ASLEEP, Directory
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.text import clean, cut_bytes


class Fires:
    """Delegations of workspaces to themselves.

    The agent reads such a task like one of a person: the item names no sender, and no result comes
    back to its inbox.

    Args:
        wake: begins to start a hibernated workspace, before its task is accepted.
    """

    def __init__(
        self,
        pool: Pool,
        writes: LedgerWrites,
        directory: Directory,
        on_queued: OnQueued,
        wake: Callable[[UUID], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._writes = writes
        self._directory = directory
        self._on_queued = on_queued
        self._wake = wake

    async def fire(self, delegation_id: UUID, workspace_id: UUID, task: str) -> None:
        """Enter a task into the ledger. A second call with the same id changes nothing.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Exhausted: INBOX_FULL or QUOTA_EXCEEDED.
        """
        workspace = await self._directory.lookup(workspace_id)
        if workspace is None:
            raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
        if workspace.status in ASLEEP:
            await self._wake(workspace.id)
        task = clean(task)
        body = json.dumps(message_body(str(delegation_id), task), separators=(",", ":"))
        draft = DelegationDraft(
            delegation_id=str(delegation_id),
            caller_id=workspace.id,
            callee_id=workspace.id,
            organization_id=workspace.organization_id,
            task_preview=cut_bytes(task),
            status=Status.QUEUED,
            idempotency_key=None,
            request_hash=request_hash(workspace.id, task),
            deadline_seconds=DEFAULT_DEADLINE_SECONDS,
            audit_id=new_id(),
            item_id=new_id(),
            request_body=body,
            bytes=len(body.encode()),
            queue_id=new_id() if workspace.delivery_mode != "poll" else None,
        )
        if await self._writes.accept(draft) and draft.queue_id is not None:
            self._on_queued(workspace.id)

    async def undelivered(self, delegation_ids: Collection[UUID]) -> set[UUID]:
        """Those that wait for an agent that is away, or that has not been called yet."""
        return await store.undelivered(self._pool, delegation_ids)

    async def ended(self, delegation_ids: Collection[UUID]) -> list[EndedFire]:
        """Those that have ended."""
        return await store.ended(self._pool, delegation_ids)
