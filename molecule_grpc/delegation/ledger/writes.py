"""The hot writes and reads of the slice, each batched over all calls that are in flight."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self
from uuid import UUID

from molecule_grpc.db.group_commit import GroupCommit
from molecule_grpc.db.pool import Pool, Writer
from molecule_grpc.db.wakeups import Wakeups, delegation_key
from molecule_grpc.delegation.inbox.cache import InboxCache
from molecule_grpc.delegation.inbox.store import inbox
from molecule_grpc.delegation.ledger.store import items, ledger
from molecule_grpc.delegation.record.store import activity
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.settings.settings import Settings

# How often a move is tried again when the ledger changed under it.
_RACES = 5


class Journal:
    """Durable writes: when a method returns, what it wrote is committed and waiters are awake."""

    def __init__(self, dsn: str, pool: Pool, wakeups: Wakeups, settings: Settings) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._cache = InboxCache()
        wakeups.on_news(self._cache.forget, self._cache.forget_all)
        self._max_items = settings.inbox.max_items
        self._max_bytes = settings.inbox.max_bytes
        linger = settings.process.group_commit_linger_ms / 1000
        writers = {
            name: Writer(dsn, application_name=f"molecule-grpc-{name}", statement=statement)
            for name, statement in (
                ("accept", ledger.ACCEPT),
                ("move", ledger.MOVE),
                ("append", activity.APPEND_ENTRIES),
                ("ack", inbox.ACK),
                ("read", inbox.READ),
            )
        }
        self._writers = writers.values()

        async def accept(drafts: Sequence[ledger.DelegationDraft]) -> list[ledger.Accepted]:
            return await ledger.accept(
                writers["accept"], drafts, max_items=self._max_items, max_bytes=self._max_bytes
            )

        async def move(moves: Sequence[ledger.Move]) -> list[ledger.Moved]:
            return await ledger.move(writers["move"], moves)

        async def append(items: Sequence[tuple[Entry, bool]]) -> list[activity.Appended]:
            return await activity.append(
                writers["append"], items, max_items=self._max_items, max_bytes=self._max_bytes
            )

        async def ack(acks: Sequence[inbox.Ack]) -> list[inbox.Acked | None]:
            return await inbox.ack(writers["ack"], acks)

        async def read(wants: Sequence[inbox.InboxQuery]) -> list[inbox.InboxPage]:
            return await inbox.read(writers["read"], wants)

        self._accepts: GroupCommit[ledger.DelegationDraft, ledger.Accepted] = GroupCommit(
            "accept", accept, key=_draft_key, linger=linger, after_flush=self._accepted
        )
        self._moves: GroupCommit[ledger.Move, ledger.Moved] = GroupCommit(
            "move", move, key=lambda m: m.delegation_id, linger=linger, after_flush=self._moved
        )
        self._appends: GroupCommit[tuple[Entry, bool], activity.Appended] = GroupCommit(
            "append", append, key=_entry_key, linger=linger, after_flush=self._appended
        )
        self._acks: GroupCommit[inbox.Ack, inbox.Acked | None] = GroupCommit(
            "ack", ack, key=lambda a: a.workspace_id, linger=linger
        )
        self._reads: GroupCommit[inbox.InboxQuery, inbox.InboxPage] = GroupCommit("read", read)
        self._queues = (self._accepts, self._moves, self._appends, self._acks, self._reads)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for writer in self._writers:
            self._stack.push_async_callback(writer.close)
            await writer.open()
        for queue in self._queues:
            await queue.start()
            self._stack.push_async_callback(queue.stop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def accept(self, draft: ledger.DelegationDraft) -> bool:
        """Enter a delegation into the ledger. False when its id or key is taken.

        Raises:
            Exhausted: the callee's inbox or queue is full.
        """
        outcome = await self._accepts.submit(draft)
        if outcome.full and draft.queue_id is not None:
            raise Exhausted(
                f"{self._max_items} messages wait for the target, try again later",
                reason="INBOX_FULL",
                retry_after=30,
            )
        if outcome.full:
            await self._require_room(draft.callee_id)
            outcome = await self._accepts.submit(draft._replace(exempt=True))
        return outcome.fresh

    async def move(self, move: ledger.Move) -> ledger.Moved:
        """Move a delegation, or say why not."""
        outcome = await self._moves.submit(move)
        for _ in range(_RACES):
            if outcome.moved or outcome.late or not outcome.found:
                break
            if outcome.before not in ("queued", "dispatched", "in_progress"):
                break
            if move.overdue or move.beat_before is not None or outcome.early:
                break  # a guard held it back
            # It was live when the statement began and closed before its turn: look again.
            outcome = await self._moves.submit(move)
        return outcome

    async def append(self, entry: Entry) -> activity.Appended:
        """Append to a workspace's record, and to its inbox when the entry is a message.

        Raises:
            Exhausted: the inbox is full.
        """
        outcome = await self._appends.submit((entry, False))
        if outcome.full:
            await self._require_room(entry.workspace_id)
            outcome = await self._appends.submit((entry, True))
        return outcome

    async def ack(self, ack: inbox.Ack) -> inbox.Acked | None:
        """Mark items as done; None when the epoch is not the holder's."""
        done = await self._acks.submit(ack)
        if done is not None:
            self._cache.acked(ack.workspace_id, done.acked_seq, ack.seqs)
        return done

    async def read(self, want: inbox.InboxQuery) -> inbox.InboxPage:
        """What an inbox holds, for a reader that is woken by news: what it missed comes soon."""
        return self._cache.get(want) or await self.look(want)

    async def look(self, want: inbox.InboxQuery) -> inbox.InboxPage:
        """What an inbox holds now, whoever wrote it."""
        self._cache.reading(want)
        try:
            page = await self._reads.submit(want)
        except BaseException:
            self._cache.abandon(want)
            raise
        self._cache.read(want, page)
        return page

    def confirm(self, workspace_id: UUID, stands: inbox.InboxPosition, asked_at: float) -> None:
        """The table was asked at `asked_at`, by `time.monotonic()`, and held this of an inbox."""
        self._cache.confirm(workspace_id, stands, asked_at)

    async def undone(self, workspace_id: UUID, seqs: Sequence[int]) -> dict[int, int]:
        """Which of these items are not done, and how often each was delivered in vain."""
        return await inbox.undone(self._pool, workspace_id, seqs)

    async def _require_room(self, workspace_id: UUID) -> None:
        """The cheap check counts items done out of order as undone: count exactly."""
        items, size = await activity.undone(self._pool, workspace_id)
        if items >= self._max_items or size >= self._max_bytes:
            raise Exhausted(
                f"the inbox of the target holds {items} undone items, try again later",
                reason="INBOX_FULL",
                metadata={"items": str(items), "bytes": str(size)},
                retry_after=30,
            )

    def _accepted(self, done: Sequence[tuple[ledger.DelegationDraft, ledger.Accepted]]) -> None:
        news: set[UUID] = set()
        for draft, outcome in done:
            if outcome.placed is not None:
                news.add(draft.callee_id)
                self._cache.extend(draft.callee_id, items.of_draft(draft, outcome.placed))
            if outcome.fresh:
                news.add(CHANNEL_ALL)
        self._wakeups.announce(news)

    def _moved(self, done: Sequence[tuple[ledger.Move, ledger.Moved]]) -> None:
        news: set[UUID] = set()
        for move, outcome in done:
            if outcome.moved:
                news.update((delegation_key(move.delegation_id), CHANNEL_ALL))
            if outcome.placed is not None and outcome.caller_id is not None:
                news.add(outcome.caller_id)
                self._cache.extend(outcome.caller_id, items.of_move(move, outcome))
            if outcome.callee_id is not None and (
                outcome.retried or move.failure_reason == "cancelled"
            ):
                self._wakeups.wake([outcome.callee_id])
        self._wakeups.announce(news)

    def _appended(self, done: Sequence[tuple[tuple[Entry, bool], activity.Appended]]) -> None:
        news: set[UUID] = {CHANNEL_ALL}
        for (entry, _), outcome in done:
            if outcome.placed is not None:
                news.add(entry.workspace_id)
                self._cache.extend(entry.workspace_id, items.of_entry(entry, outcome.placed))
        self._wakeups.announce(news)


def _draft_key(draft: ledger.DelegationDraft) -> object:
    """Two drafts with one key cannot be told apart within a statement."""
    return (draft.caller_id, draft.idempotency_key or draft.delegation_id)


def _entry_key(item: tuple[Entry, bool]) -> object:
    entry, _ = item
    return (entry.workspace_id, entry.message_id or entry.activity_id)
