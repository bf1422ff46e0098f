"""Accepting delegations and moving them, batched over all calls that are in flight."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self
from uuid import UUID

from molecule_grpc.db.group_commit import GroupCommit
from molecule_grpc.db.pool import Pool, Writer
from molecule_grpc.db.wakeups import Wakeups, delegation_key
from molecule_grpc.delegation.inbox.reads import InboxReads
from molecule_grpc.delegation.ledger.store import items, views
from molecule_grpc.delegation.ledger.store.accept import (
    ACCEPT,
    ACCEPT_WITH_ROOM,
    Accepted,
    Beyond,
    DelegationDraft,
    accept_with_room,
)
from molecule_grpc.delegation.ledger.store.accept import accept as accept_all
from molecule_grpc.delegation.ledger.store.limits import Limits
from molecule_grpc.delegation.ledger.store.move import MOVE, Move, Moved
from molecule_grpc.delegation.ledger.store.move import move as move_all
from molecule_grpc.delegation.record.writes import require_room
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.quotas import Quotas

# After a batch met a limit the next ones are likely to: whoever is at the limit tries again.
_TIGHT_SECONDS = 1.0


class LedgerWrites:
    """Durable writes: when a method returns, the rows are committed and waiters are awake.

    Open it for as long as calls are served.

    Args:
        linger: seconds that a batch may wait for more, under load.
    """

    def __init__(
        self,
        dsn: str,
        pool: Pool,
        wakeups: Wakeups,
        reads: InboxReads,
        quotas: Quotas,
        *,
        linger: float,
    ) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._reads = reads
        self._quotas = quotas
        self._limits = Limits.of(quotas)
        # Until then batches are checked draft by draft: one of them met a limit.
        self._tight_until = -math.inf
        self._accept_writer = Writer(
            dsn, ACCEPT_WITH_ROOM, ACCEPT, application_name="molecule-grpc-accept"
        )
        self._move_writer = Writer(dsn, MOVE, application_name="molecule-grpc-move")
        self._accepts: GroupCommit[DelegationDraft, Accepted] = GroupCommit(
            "accept",
            self._flush_accepts,
            key=_draft_key,
            linger=linger,
            after_flush=self._accepted,
        )
        self._moves: GroupCommit[Move, Moved] = GroupCommit(
            "move",
            self._flush_moves,
            key=lambda each: each.delegation_id,
            linger=linger,
            after_flush=self._moved,
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for writer in (self._accept_writer, self._move_writer):
            self._stack.push_async_callback(writer.close)
            await writer.open()
        for queue in (self._accepts, self._moves):
            await queue.start()
            self._stack.push_async_callback(queue.stop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def accept(self, draft: DelegationDraft) -> bool:
        """Enter a delegation into the ledger. False when its id or key is taken.

        Raises:
            Exhausted: INBOX_FULL: the callee's inbox or queue is full. QUOTA_EXCEEDED: too many
                delegations are under way, or too much was recorded today.
        """
        outcome = await self._accepts.submit(draft)
        if outcome.full and draft.queue_id is not None:
            items = self._quotas.inbox_items
            raise items.refusal(
                draft.callee_id,
                message=f"{items.limit} messages wait for the target, try again later",
            )
        if outcome.full:
            await require_room(self._pool, draft.callee_id, self._quotas)
            outcome = await self._accepts.submit(draft._replace(exempt=True))
        if outcome.beyond is not None and not await self._repeats(draft):
            raise self._refusal(draft, outcome.beyond)
        return outcome.fresh

    async def _repeats(self, draft: DelegationDraft) -> bool:
        """Whether the draft's id or key is taken: a repeat needs no room."""
        return bool(
            await views.key_holder(self._pool, draft) or await views.id_holder(self._pool, draft)
        )

    def _refusal(self, draft: DelegationDraft, beyond: str) -> Exhausted:
        if beyond == Beyond.WORKSPACE:
            return self._quotas.open_of_workspace.refusal(draft.caller_id)
        if beyond == Beyond.ORGANIZATION:
            return self._quotas.open_of_organization.refusal(draft.organization_id)
        return self._quotas.too_much_recorded(draft.organization_id)

    async def move(self, move: Move) -> Moved:
        """Move a delegation; what became of the move."""
        return await self._moves.submit(move)

    async def _flush_accepts(self, drafts: Sequence[DelegationDraft]) -> list[Accepted]:
        writer, limits = self._accept_writer, self._limits
        plain = not any(draft.queue_id or draft.exempt for draft in drafts)
        if plain and time.monotonic() >= self._tight_until:
            done = await accept_with_room(writer, drafts, limits)
            if done is not None:
                return done
            self._tight_until = time.monotonic() + _TIGHT_SECONDS
        return await accept_all(writer, drafts, limits)

    async def _flush_moves(self, moves: Sequence[Move]) -> list[Moved]:
        return await move_all(self._move_writer, moves)

    def _accepted(self, done: Sequence[tuple[DelegationDraft, Accepted]]) -> None:
        news: set[UUID] = set()
        for draft, outcome in done:
            if outcome.placed is not None:
                news.add(draft.callee_id)
                self._reads.extend(draft.callee_id, items.of_draft(draft, outcome.placed))
            if outcome.fresh:
                news.add(CHANNEL_ALL)
        self._wakeups.announce(news)

    def _moved(self, done: Sequence[tuple[Move, Moved]]) -> None:
        news: set[UUID] = set()
        for move, outcome in done:
            if outcome.moved:
                news.update((delegation_key(move.delegation_id), CHANNEL_ALL))
            if outcome.placed is not None and outcome.caller_id is not None:
                news.add(outcome.caller_id)
                self._reads.extend(outcome.caller_id, items.of_move(move, outcome))
            if outcome.callee_id is not None and (
                outcome.retried or move.failure_reason == "cancelled"
            ):
                self._wakeups.wake([outcome.callee_id])
        self._wakeups.announce(news)


def _draft_key(draft: DelegationDraft) -> object:
    """Drafts with the same key go into different statements: one would hide the other's outcome."""
    return (draft.caller_id, draft.idempotency_key or draft.delegation_id)
