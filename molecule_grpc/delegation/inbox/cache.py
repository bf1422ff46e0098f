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

# A remembered inbox is read again from the database after so long without proof that it is true,
# which the safety check gives more often; and after so long whatever was proven, for what the check
# does not see: items that were given back.
_MAX_UNPROVEN_SECONDS = 12.0
_MAX_AGE_SECONDS = 60.0
_MAX_ROWS = 64
_MAX_TAILS = 20_000
# Larger items are not kept in memory: readers fetch them.
_MAX_BODY = 16 * 1024


@dataclass(slots=True)
class _CachedInbox:
    """An inbox as a page showed it, and what this process has appended since."""

    page: InboxPage
    read_at: float
    proven_at: float
    head: int
    rows: list[InboxRow] = field(default_factory=list)

    def covers(self, want: InboxQuery, now: float) -> bool:
        """Whether everything that the reader could get is remembered."""
        due = self.page.retry_in
        return (
            not self.old(now)
            and (due is None or now - self.read_at < due)
            and (want.after >= self.page.head_seq)
            and want.after <= self.head
        )

    def old(self, now: float) -> bool:
        """Whether it may be wrong by now."""
        return (
            now - self.proven_at >= _MAX_UNPROVEN_SECONDS or now - self.read_at >= _MAX_AGE_SECONDS
        )


class InboxCache:
    """Answers readers that are up to date without a query.

    It only knows what this process wrote itself. Any other news of an inbox must be told by
    `forget`; then the next reader asks the database.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cache: OrderedDict[UUID, _CachedInbox] = OrderedDict()
        # Reads in flight, and the inboxes that changed while they were.
        self._reading: dict[UUID, int] = {}
        self._changed: set[UUID] = set()

    def get(self, want: InboxQuery) -> InboxPage | None:
        """The answer, if it is known."""
        tail = self._cache.get(want.workspace_id)
        if tail is None or not tail.covers(want, self._clock()):
            return None
        after = max(want.after, tail.page.acked_seq)
        items = [row for row in tail.rows if row.seq > after][: want.limit]
        return tail.page._replace(head_seq=tail.head, items=items)

    def reading(self, want: InboxQuery) -> None:
        """The database is being asked; `read` or `abandon` must follow."""
        self._reading[want.workspace_id] = self._reading.get(want.workspace_id, 0) + 1

    def read(self, want: InboxQuery, page: InboxPage) -> None:
        """The database has answered: remember it, unless it is old already or not the whole.

        Nor while items that were given back are due: other readers wait for them too.
        """
        changed = want.workspace_id in self._changed
        self.abandon(want)
        if changed or not want.limit or len(page.items) >= want.limit:
            return
        if any(row.deliveries for row in page.items):
            return
        now = self._clock()
        self._cache[want.workspace_id] = _CachedInbox(
            page._replace(items=[]), now, now, page.head_seq
        )
        if len(self._cache) > _MAX_TAILS:
            self._cache.popitem(last=False)

    def abandon(self, want: InboxQuery) -> None:
        """The database is no longer being asked."""
        left = self._reading[want.workspace_id] - 1
        if left:
            self._reading[want.workspace_id] = left
        else:
            del self._reading[want.workspace_id]
            self._changed.discard(want.workspace_id)

    def extend(self, workspace_id: UUID, row: InboxRow) -> None:
        """This process has appended an item."""
        self._note(workspace_id)
        tail = self._cache.get(workspace_id)
        if tail is None:
            return
        if tail.old(self._clock()) or row.seq != tail.head + 1 or len(row.body or "") > _MAX_BODY:
            del self._cache[workspace_id]
            return
        tail.head = row.seq
        tail.rows.append(row)
        if len(tail.rows) > _MAX_ROWS:
            dropped = tail.rows.pop(0)
            tail.page = tail.page._replace(head_seq=dropped.seq)

    def acked(self, workspace_id: UUID, acked_seq: int, seqs: tuple[int, ...]) -> None:
        """This process has marked items as done: all up to `acked_seq`, and these."""
        self._note(workspace_id)
        tail = self._cache.get(workspace_id)
        if tail is None:
            return
        tail.page = tail.page._replace(acked_seq=max(acked_seq, tail.page.acked_seq))
        if seqs:
            tail.rows = [row for row in tail.rows if row.seq not in seqs]

    def confirm(self, workspace_id: UUID, stands: InboxPosition, asked_at: float) -> None:
        """The table was asked at `asked_at` and held this: what is remembered is that fresh."""
        tail = self._cache.get(workspace_id)
        if (
            tail is not None
            and stands.head_seq <= tail.head
            and stands.acked_seq <= tail.page.acked_seq
            and stands.lease_epoch == tail.page.lease_epoch
            and stands.workspace_status == tail.page.workspace_status
        ):
            tail.proven_at = max(tail.proven_at, asked_at)

    def forget(self, workspace_id: UUID) -> None:
        """There is news of this inbox that is not told here."""
        self._note(workspace_id)
        self._cache.pop(workspace_id, None)

    def forget_all(self) -> None:
        """There may be news of any inbox."""
        self._changed.update(self._reading)
        self._cache.clear()

    def _note(self, workspace_id: UUID) -> None:
        if workspace_id in self._reading:
            self._changed.add(workspace_id)
