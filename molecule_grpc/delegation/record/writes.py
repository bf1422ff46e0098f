"""Appending to records and inboxes, batched over all calls that are in flight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Self, TypeAlias
from uuid import UUID

from molecule_grpc.db.group_commit import GroupCommit
from molecule_grpc.db.pool import Connection, Pool, Writer
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.delegation.record.store import activity, usage
from molecule_grpc.delegation.record.store.activity import EntryDraft
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.quotas import Quotas

# Told of every entry that became an inbox item, after the commit and before anybody is woken.
OnItem: TypeAlias = Callable[[Entry, activity.Appended], None]


async def require_room(pool: Pool | Connection, workspace_id: UUID, quotas: Quotas) -> None:
    """Raise when an inbox is full, counted item by item.

    The statements' own check is cheap and counts items done out of order as undone.

    Raises:
        Exhausted: INBOX_FULL.
    """
    items, size = await activity.undone(pool, workspace_id)
    for quota, used in ((quotas.inbox_items, items), (quotas.inbox_bytes, size)):
        if quota.exceeded(used):
            raise quota.refusal(
                workspace_id,
                message=f"the inbox of the target holds {items} undone items, try again later",
                metadata={"items": str(items), "bytes": str(size)},
            )


async def require_day_room(pool: Pool, organization_id: UUID, quotas: Quotas) -> None:
    """Raise when an organisation has recorded its bytes of the day, before a message is sent.

    Raises:
        Exhausted: QUOTA_EXCEEDED.
    """
    if not quotas.record_bytes.limit:
        return
    used = await usage.of_organization(pool, organization_id)
    if quotas.record_bytes.exceeded(used.bytes):
        raise quotas.too_much_recorded(organization_id)


class RecordWrites:
    """Durable appends: when `append` returns, the row is committed and its readers are awake.

    An async context manager, open while calls are served; its exit flushes what waits.

    Args:
        linger: seconds that a batch may wait for more, under load.
        watched: whether somebody may read events, at whichever worker. ACTIVITY_LOGGED is not
            written for nobody: a fifth of a full flush. A reader at another worker is heard of
            some milliseconds after the stream has opened; such events may be missed.
    """

    def __init__(
        self,
        dsn: str,
        pool: Pool,
        wakeups: Wakeups,
        quotas: Quotas,
        *,
        on_item: OnItem,
        linger: float,
        watched: Callable[[], bool] = lambda: True,
    ) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._quotas = quotas
        self._on_item = on_item
        self._watched = watched
        self._writer = Writer(dsn, activity.APPEND_ENTRIES, application_name="molecule-grpc-append")
        self._queue: GroupCommit[EntryDraft, activity.Appended] = GroupCommit(
            "append", self._flush, key=_key, linger=linger, after_flush=self._appended
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self._writer.close)
        await self._writer.open()
        await self._queue.start()
        self._stack.push_async_callback(self._queue.stop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def append(self, entry: Entry, *, kept: bool = False) -> activity.Appended:
        """Append to a workspace's record, and to its inbox when the entry is a message.

        Args:
            kept: whether the record takes it however much was recorded today: it tells of what was
                accepted before.

        Raises:
            Exhausted: INBOX_FULL or QUOTA_EXCEEDED.
        """
        draft = EntryDraft(entry, kept=kept)
        outcome = await self._queue.submit(draft)
        if outcome.full:
            await require_room(self._pool, entry.workspace_id, self._quotas)
            outcome = await self._queue.submit(draft._replace(exempt=True))
        if outcome.beyond is not None:
            raise self._quotas.too_much_recorded(outcome.beyond)
        return outcome

    async def _flush(self, batch: Sequence[EntryDraft]) -> list[activity.Appended]:
        return await activity.append(
            self._writer,
            batch,
            max_items=self._quotas.inbox_items.bound,
            max_bytes=self._quotas.inbox_bytes.bound,
            day_bytes=self._quotas.record_bytes.bound,
            watched=self._watched(),
        )

    def _appended(self, done: Sequence[tuple[EntryDraft, activity.Appended]]) -> None:
        news: set[UUID] = {CHANNEL_ALL}
        for draft, outcome in done:
            if outcome.placed is not None:
                news.add(draft.entry.workspace_id)
                self._on_item(draft.entry, outcome)
        self._wakeups.announce(news)


def _key(draft: EntryDraft) -> object:
    entry = draft.entry
    return (entry.workspace_id, entry.message_id or entry.activity_id)
