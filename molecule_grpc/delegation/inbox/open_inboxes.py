"""All open inbox streams of this worker: their leases, the safety check, presence."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from uuid import UUID

from prometheus_client import Counter, Gauge

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.inbox.store import leases, reads
from molecule_grpc.delegation.inbox.stream import InboxStream

_OPEN = Gauge("molecule_inbox_open_streams", "Inbox streams open now.", multiprocess_mode="livesum")
_WAKES = Counter("molecule_inbox_wakeup_source_total", "What made a stream look.", ["source"])
_SAFETY_WAKES = _WAKES.labels("safety")
_WAKES.labels("signal")

_NEVER = reads.InboxPosition(0, 0, 0, "")

# An open stream refreshes its workspace's last-seen every 30 s.
PRESENCE_SECONDS = 30.0

# A pass goes over the streams in slices. A thousand at once kept the worker and Postgres so busy
# that messages waited 30 ms for it; a slice costs a millisecond, and they come in between.
_SLICE, _SLICE_PAUSE_SECONDS = 100, 0.01


class OpenInboxes:
    """Owns which streams are open; a pass over them costs one statement for a hundred.

    Args:
        lease_seconds: how long a renewed lease lasts.
        touch_present: told of workspaces whose streams are open.
        wake: makes the streams of a workspace look at the database.
        confirm: told of inboxes whose streams have missed nothing, and when the table was asked.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        lease_seconds: float,
        touch_present: Callable[[list[UUID]], Awaitable[None]],
        wake: Callable[[UUID], None],
        confirm: Callable[[UUID, reads.InboxPosition, float], None],
    ) -> None:
        self._pool = pool
        self._lease_seconds = lease_seconds
        self._touch_present = touch_present
        self._wake = wake
        self._confirm = confirm
        self._open: set[InboxStream] = set()

    @contextlib.contextmanager
    def attend(self, stream: InboxStream) -> Iterator[None]:
        """Renew the stream's lease and check for wake-ups that it missed, while inside."""
        self._open.add(stream)
        _OPEN.inc()
        try:
            yield
        finally:
            self._open.discard(stream)
            _OPEN.dec()

    def __len__(self) -> int:
        return len(self._open)

    async def renew(self) -> None:
        """Extend all leases; a stream whose lease is gone finds out at once."""
        async for streams in self._slices():
            await self._renew([stream for stream in streams if stream.epoch])

    async def check(self) -> None:
        """Wake the streams that have missed something: wake-ups are hints, the table is truth.

        What is cached of the other inboxes has been proven, and stays good for a while.
        """
        async for streams in self._slices():
            await self._check(streams)

    async def present(self) -> None:
        """Refresh the last-seen of every workspace that has an open stream."""
        async for streams in self._slices():
            await self._touch_present(list({stream.workspace_id for stream in streams}))

    async def _slices(self) -> AsyncIterator[list[InboxStream]]:
        """Streams that are open now, without those that close before their slice's turn."""
        everyone = list(self._open)
        for start in range(0, len(everyone), _SLICE):
            if start:
                await asyncio.sleep(_SLICE_PAUSE_SECONDS)
            if still := [s for s in everyone[start : start + _SLICE] if s in self._open]:
                yield still

    async def _renew(self, leased: list[InboxStream]) -> None:
        if not leased:
            return
        held = await leases.renew(
            self._pool,
            [(stream.workspace_id, stream.epoch) for stream in leased],
            seconds=self._lease_seconds,
        )
        for stream in leased:
            if stream.workspace_id not in held:
                self._wake(stream.workspace_id)

    async def _check(self, streams: list[InboxStream]) -> None:
        asked_at = time.monotonic()
        found = await reads.positions(self._pool, list({s.workspace_id for s in streams}))
        for stream in streams:
            position = found.get(stream.workspace_id, _NEVER)
            if (
                position.head_seq > stream.window.head
                or position.acked_seq > stream.window.acked
                or stream.epoch not in (0, position.lease_epoch)
            ):
                _SAFETY_WAKES.inc()
                self._wake(stream.workspace_id)
            else:
                self._confirm(stream.workspace_id, position, asked_at)
