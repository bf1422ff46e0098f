"""The newest items of inboxes that are being read, so that readers need not ask the database."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from molecule_grpc.delegation.inbox.store.reads import (
    InboxPage,
    InboxPosition,
    InboxQuery,
    InboxRow,
)

# The safety check proves a cached inbox every 5 s; 12 s without proof make the copy void. 60 s
# after the read the copy is void in any case: that check does not see items that were given back.
_MAX_UNPROVEN_SECONDS = 12.0
_MAX_AGE_SECONDS = 60.0
# Per inbox and per process. Readers that are 64 items behind ask the database.
_MAX_ROWS = 64
_MAX_INBOXES = 20_000
# Bodies above 16 KiB are not kept in memory: readers fetch them. Of the others 64 MiB are kept, of
# the inboxes that were read last.
_MAX_BODY = 16 * 1024
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class _CachedInbox:
    """An inbox as a page showed it, and what this process has appended since.

    Args:
        page: the page without its items.
        head: newest item, appended here or read.
        rows: items after the page's head, in order.
    """

    page: InboxPage
    read_at: float
    proven_at: float
    head: int
    rows: list[InboxRow] = field(default_factory=list)

    def covers(self, query: InboxQuery, now: float) -> bool:
        """Whether everything that the reader could get is cached."""
        retry_in = self.page.retry_in
        return (
            not self.void(now)
            and (retry_in is None or now - self.read_at < retry_in)
            and self.page.head_seq <= query.after <= self.head
        )

    def void(self, now: float) -> bool:
        """Whether the cached inbox is too old to be believed."""
        return (
            now - self.proven_at >= _MAX_UNPROVEN_SECONDS or now - self.read_at >= _MAX_AGE_SECONDS
        )


class InboxCache:
    """Answers readers that are up to date without a query.

    The cache knows what this process wrote itself. Any other news of an inbox must be told by
    `forget`; then the next reader asks the database.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cache: OrderedDict[UUID, _CachedInbox] = OrderedDict()
        # Of all rows' bodies.
        self._bytes = 0
        # Reads in flight by inbox, and the inboxes that changed while they were.
        self._reading: dict[UUID, int] = {}
        self._changed: set[UUID] = set()

    def get(self, query: InboxQuery) -> InboxPage | None:
        """The answer, if the cache has it."""
        cached = self._cache.get(query.workspace_id)
        if cached is None or not cached.covers(query, self._clock()):
            return None
        if not cached.rows and cached.head == cached.page.head_seq:
            return cached.page
        after = max(query.after, cached.page.acked_seq)
        items = [row for row in cached.rows if row.seq > after][: query.limit]
        return cached.page._replace(head_seq=cached.head, items=items)

    def begin(self, query: InboxQuery) -> None:
        """The database is being asked; `store` or `abandon` must follow."""
        self._reading[query.workspace_id] = self._reading.get(query.workspace_id, 0) + 1

    def store(self, query: InboxQuery, page: InboxPage) -> None:
        """The database has answered: cache the page if it shows the whole inbox as it is now.

        A page with items that were given back is not cached: other readers wait for them, too.
        """
        changed = query.workspace_id in self._changed
        self.abandon(query)
        if changed or not query.limit or page.cut or len(page.items) >= query.limit:
            return
        if any(row.deliveries for row in page.items):
            return
        now = self._clock()
        self._drop(query.workspace_id)
        self._cache[query.workspace_id] = _CachedInbox(
            page._replace(items=[]), now, now, page.head_seq
        )
        if len(self._cache) > _MAX_INBOXES:
            self._drop(next(iter(self._cache)))

    def abandon(self, query: InboxQuery) -> None:
        """The database is no longer being asked."""
        left = self._reading[query.workspace_id] - 1
        if left:
            self._reading[query.workspace_id] = left
        else:
            del self._reading[query.workspace_id]
            self._changed.discard(query.workspace_id)

    def extend(self, workspace_id: UUID, row: InboxRow) -> None:
        """This process has appended an item."""
        self._note(workspace_id)
        cached = self._cache.get(workspace_id)
        if cached is None:
            return
        large = len(row.body or "") > _MAX_BODY
        if cached.void(self._clock()) or row.seq != cached.head + 1 or large:
            self._drop(workspace_id)
            return
        cached.head = row.seq
        cached.rows.append(row)
        self._bytes += _size(row)
        if len(cached.rows) > _MAX_ROWS:
            dropped = cached.rows.pop(0)
            self._bytes -= _size(dropped)
            cached.page = cached.page._replace(head_seq=dropped.seq)
        while self._bytes > _MAX_BYTES:
            self._drop(next(iter(self._cache)))

    def acked(self, workspace_id: UUID, acked_seq: int, seqs: tuple[int, ...]) -> None:
        """This process has marked items as done: all up to `acked_seq`, and these."""
        self._note(workspace_id)
        cached = self._cache.get(workspace_id)
        if cached is None:
            return
        cached.page = cached.page._replace(acked_seq=max(acked_seq, cached.page.acked_seq))
        if seqs:
            self._bytes -= sum(_size(row) for row in cached.rows if row.seq in seqs)
            cached.rows = [row for row in cached.rows if row.seq not in seqs]

    def confirm(self, workspace_id: UUID, position: InboxPosition, asked_at: float) -> None:
        """The table held this position at `asked_at`: if the cache agrees, it is proven."""
        cached = self._cache.get(workspace_id)
        if (
            cached is not None
            and position.head_seq <= cached.head
            and position.acked_seq <= cached.page.acked_seq
            and position.lease_epoch == cached.page.lease_epoch
            and position.workspace_status == cached.page.workspace_status
        ):
            cached.proven_at = max(cached.proven_at, asked_at)

    def forget(self, workspace_id: UUID) -> None:
        """There is news of this inbox that the cache is not told."""
        self._note(workspace_id)
        self._drop(workspace_id)

    def forget_all(self) -> None:
        """There may be news of any inbox."""
        self._changed.update(self._reading)
        self._cache.clear()
        self._bytes = 0

    def _drop(self, workspace_id: UUID) -> None:
        cached = self._cache.pop(workspace_id, None)
        if cached is not None:
            self._bytes -= sum(map(_size, cached.rows))

    def _note(self, workspace_id: UUID) -> None:
        if workspace_id in self._reading:
            self._changed.add(workspace_id)


def _size(row: InboxRow) -> int:
    return len(row.body or "")
