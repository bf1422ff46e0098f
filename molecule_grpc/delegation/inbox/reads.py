"""Reading inboxes and acknowledging items, batched over all calls that are in flight."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self
from uuid import UUID

from molecule_grpc.db.group_commit import GroupCommit
from molecule_grpc.db.pool import Pool, Writer
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.delegation.inbox.cache import InboxCache
from molecule_grpc.delegation.inbox.store import acks, items, reads
from molecule_grpc.delegation.record.store.activity import Appended
from molecule_grpc.delegation.record.store.entries import Entry

# Of one statement: each gets at least one item, whose body has up to 256 KiB.
_MAX_READERS = 256


class InboxReads:
    """Owns the reads and acks of inboxes, batched, and the cache that answers without a query.

    An async context manager, open while calls are served; its exit flushes what waits.

    Args:
        linger: seconds that a batch of acks may wait for more, under load.
    """

    def __init__(self, dsn: str, pool: Pool, wakeups: Wakeups, *, linger: float) -> None:
        self._pool = pool
        self._cache = InboxCache()
        wakeups.on_news(self._cache.forget, self._cache.forget_all)
        self._ack_writer = Writer(dsn, acks.ACK, application_name="molecule-grpc-ack")
        self._reader = Writer(dsn, reads.READ, application_name="molecule-grpc-read")
        self._acks: GroupCommit[acks.Ack, acks.Acked | acks.AckRefusal] = GroupCommit(
            "ack", self._flush_acks, key=lambda each: each.workspace_id.int, linger=linger
        )
        self._reads: GroupCommit[reads.InboxQuery, reads.InboxPage] = GroupCommit(
            "read", self._flush_reads, max_batch=_MAX_READERS
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for writer in (self._ack_writer, self._reader):
            self._stack.push_async_callback(writer.close)
            await writer.open()
        for queue in (self._acks, self._reads):
            await queue.start()
            self._stack.push_async_callback(queue.stop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ack(self, ack: acks.Ack) -> acks.Acked | acks.AckRefusal:
        """Mark items as done, or none of them and say why."""
        done = await self._acks.submit(ack)
        if isinstance(done, acks.Acked):
            self._cache.acked(ack.workspace_id, done.acked_seq, ack.seqs)
        return done

    async def read(self, query: reads.InboxQuery) -> reads.InboxPage:
        """An inbox for a reader that is woken by news: a page from the cache may lag by 12 s."""
        return self._cache.get(query) or await self.look(query)

    async def look(self, query: reads.InboxQuery) -> reads.InboxPage:
        """An inbox as the database has it now."""
        self._cache.begin(query)
        try:
            page = await self._reads.submit(query)
        except BaseException:
            self._cache.abandon(query)
            raise
        self._cache.store(query, page)
        return page

    def confirm(self, workspace_id: UUID, position: reads.InboxPosition, asked_at: float) -> None:
        """The table held this position at `asked_at`, a moment of `time.monotonic()`."""
        self._cache.confirm(workspace_id, position, asked_at)

    def extend(self, workspace_id: UUID, row: reads.InboxRow) -> None:
        """This process has appended an item, and the commit is done."""
        self._cache.extend(workspace_id, row)

    def on_item(self, entry: Entry, appended: Appended) -> None:
        """This process has appended an entry that is an item."""
        assert appended.placed is not None
        self.extend(entry.workspace_id, items.of_entry(entry, appended.placed))

    async def undone(self, workspace_id: UUID, seqs: Sequence[int]) -> dict[int, int]:
        """Which of these items are not done, and how often each was delivered in vain."""
        return await reads.undone(self._pool, workspace_id, seqs)

    async def _flush_acks(self, batch: Sequence[acks.Ack]) -> list[acks.Acked | acks.AckRefusal]:
        return await acks.ack(self._ack_writer, batch)

    async def _flush_reads(self, queries: Sequence[reads.InboxQuery]) -> list[reads.InboxPage]:
        # Readers of one inbox at one place share the answer: its bodies are in memory once.
        places = {query: number for number, query in enumerate(dict.fromkeys(queries))}
        pages = await reads.read(self._reader, list(places))
        return [pages[places[query]] for query in queries]
