"""Appending to records and inboxes, batched over all calls that are in flight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self, TypeAlias
from uuid import UUID

from molecule_grpc.db.group_commit import GroupCommit
from molecule_grpc.db.pool import Connection, Pool, Writer
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.delegation.record.store import activity
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.settings.inbox import InboxSettings

# Told of every entry that became an inbox item, after the commit and before anybody is woken.
OnItem: TypeAlias = Callable[[Entry, activity.Appended], None]


@dataclass(frozen=True, slots=True)
class InboxLimits:
    """How much undone work an inbox holds before its senders are refused."""

    max_items: int
    max_bytes: int

    @classmethod
    def of(cls, settings: InboxSettings) -> InboxLimits:
        """The limits that were set."""
        return cls(settings.max_items, settings.max_bytes)


async def require_room(pool: Pool | Connection, workspace_id: UUID, limits: InboxLimits) -> None:
    """Raise when an inbox is full, counted item by item.

    The statements' own check is cheap and counts items done out of order as undone.

    Raises:
        Exhausted: INBOX_FULL.
    """
    items, size = await activity.undone(pool, workspace_id)
    if items >= limits.max_items or size >= limits.max_bytes:
        raise Exhausted(
            f"the inbox of the target holds {items} undone items, try again later",
            reason="INBOX_FULL",
            metadata={"items": str(items), "bytes": str(size)},
            retry_after=30,
        )


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
        limits: InboxLimits,
        *,
        on_item: OnItem,
        linger: float,
        watched: Callable[[], bool] = lambda: True,
    ) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._limits = limits
        self._on_item = on_item
        self._watched = watched
        self._writer = Writer(
            dsn, application_name="molecule-grpc-append", statement=activity.APPEND_ENTRIES
        )
        self._queue: GroupCommit[tuple[Entry, bool], activity.Appended] = GroupCommit(
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

    async def append(self, entry: Entry) -> activity.Appended:
        """Append to a workspace's record, and to its inbox when the entry is a message.

        Raises:
            Exhausted: INBOX_FULL.
        """
        outcome = await self._queue.submit((entry, False))
        if outcome.full:
            await require_room(self._pool, entry.workspace_id, self._limits)
            outcome = await self._queue.submit((entry, True))
        return outcome

    async def _flush(self, batch: Sequence[tuple[Entry, bool]]) -> list[activity.Appended]:
        return await activity.append(
            self._writer,
            batch,
            max_items=self._limits.max_items,
            max_bytes=self._limits.max_bytes,
            watched=self._watched(),
        )

    def _appended(self, done: Sequence[tuple[tuple[Entry, bool], activity.Appended]]) -> None:
        news: set[UUID] = {CHANNEL_ALL}
        for (entry, _), outcome in done:
            if outcome.placed is not None:
                news.add(entry.workspace_id)
                self._on_item(entry, outcome)
        self._wakeups.announce(news)


def _key(item: tuple[Entry, bool]) -> object:
    entry, _ = item
    return (entry.workspace_id, entry.message_id or entry.activity_id)
