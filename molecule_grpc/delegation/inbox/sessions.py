"""All open inbox streams of this worker: their leases, the safety check, presence, drain."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from uuid import UUID

from prometheus_client import Counter, Gauge

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Flag
from molecule_grpc.delegation.inbox.session import Session
from molecule_grpc.delegation.inbox.store import inbox

_OPEN = Gauge("molecule_inbox_open_streams", "Inbox streams open now.", multiprocess_mode="livesum")
_FENCED = Counter("molecule_inbox_fenced_total", "Sessions that another consumer took over.")
_SAFETY = Counter("molecule_inbox_wakeup_source_total", "What made a stream look.", ["source"])
_SAFETY_WAKES = _SAFETY.labels("safety")
_SAFETY.labels("signal")

_NEVER = inbox.InboxPosition(0, 0, 0, "")

# An open stream refreshes its workspace's last-seen this seldom.
PRESENCE_SECONDS = 30.0

# A pass goes over the streams in slices. A thousand at once kept the worker and Postgres so busy
# that messages waited 30 ms for it; a slice costs a millisecond, and they come in between.
_SLICE, _SLICE_PAUSE_SECONDS = 100, 0.01


class Sessions:
    """Registry of streams. A pass costs one statement for a hundred of them."""

    def __init__(
        self,
        pool: Pool,
        *,
        lease_seconds: float,
        touch_present: Callable[[list[UUID]], Awaitable[None]],
        wake: Callable[[UUID], None],
        confirm: Callable[[UUID, inbox.InboxPosition, float], None],
    ) -> None:
        self._pool = pool
        self._lease_seconds = lease_seconds
        self._touch_present = touch_present
        self._wake = wake
        self._confirm = confirm
        self._sessions: set[Session] = set()
        self._flags: set[Flag] = set()
        self._draining = False

    @contextlib.contextmanager
    def open(self, session: Session) -> Iterator[None]:
        """Look after a session while inside."""
        session.draining = self._draining
        self._sessions.add(session)
        _OPEN.inc()
        try:
            yield
        finally:
            self._sessions.discard(session)
            _OPEN.dec()

    @contextlib.contextmanager
    def attend(self, flag: Flag) -> Iterator[None]:
        """Wake this waiter when the server is about to stop, while inside."""
        self._flags.add(flag)
        try:
            yield
        finally:
            self._flags.discard(flag)

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop."""
        return self._draining

    def drain(self) -> None:
        """Ask every client to come back elsewhere."""
        self._draining = True
        for session in self._sessions:
            session.draining = True
            session.flag.set()
        for flag in self._flags:
            flag.set()

    def __len__(self) -> int:
        return len(self._sessions)

    async def renew(self) -> None:
        """Extend all leases; a session whose lease is gone finds out at once."""
        async for leased in self._slices():
            await self._renew([session for session in leased if session.epoch])

    async def check(self) -> None:
        """Wake the sessions that have missed something: wake-ups are hints, the table is truth.

        What is remembered of the others' inboxes has been proven and stays good for a while.
        """
        async for sessions in self._slices():
            await self._check(sessions)

    async def present(self) -> None:
        """An open stream is a sign of life of its workspace."""
        async for sessions in self._slices():
            await self._touch_present(list({session.workspace_id for session in sessions}))

    async def _slices(self) -> AsyncIterator[list[Session]]:
        """Those that are open now, without those that have closed by the time it is their turn."""
        everyone = list(self._sessions)
        for start in range(0, len(everyone), _SLICE):
            if start:
                await asyncio.sleep(_SLICE_PAUSE_SECONDS)
            if still := [s for s in everyone[start : start + _SLICE] if s in self._sessions]:
                yield still

    async def _renew(self, leased: list[Session]) -> None:
        if not leased:
            return
        held = await inbox.renew_leases(
            self._pool,
            [(session.workspace_id, session.epoch) for session in leased],
            seconds=self._lease_seconds,
        )
        for session in leased:
            if session.workspace_id not in held:
                self._wake(session.workspace_id)

    async def _check(self, sessions: list[Session]) -> None:
        asked_at = time.monotonic()
        found = await inbox.heads(self._pool, list({s.workspace_id for s in sessions}))
        for session in sessions:
            stands = found.get(session.workspace_id, _NEVER)
            if (
                stands.head_seq > session.head
                or stands.acked_seq > session.acked
                or session.epoch not in (0, stands.lease_epoch)
            ):
                _SAFETY_WAKES.inc()
                self._wake(session.workspace_id)
            else:
                self._confirm(session.workspace_id, stands, asked_at)


def count_fenced() -> None:
    """A session was taken over."""
    _FENCED.inc()
