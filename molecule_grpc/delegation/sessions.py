"""All open inbox streams of this worker: their leases, the safety check, presence, drain."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from uuid import UUID

from prometheus_client import Counter, Gauge

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Flag
from molecule_grpc.delegation.session import Session
from molecule_grpc.delegation.store import inbox

_OPEN = Gauge("molecule_inbox_open_streams", "Inbox streams open now.", multiprocess_mode="livesum")
_FENCED = Counter("molecule_inbox_fenced_total", "Sessions that another consumer took over.")
_SAFETY = Counter("molecule_inbox_wakeup_source_total", "What made a stream look.", ["source"])
_SAFETY_WAKES = _SAFETY.labels("safety")
_SAFETY.labels("signal")

_NEVER = inbox.Standing(0, 0, 0, "")

# An open stream refreshes its workspace's last-seen this seldom.
PRESENCE_SECONDS = 30.0


class Sessions:
    """Registry of streams. Each pass costs one statement, however many streams there are."""

    def __init__(
        self,
        pool: Pool,
        *,
        lease_seconds: float,
        touch_present: Callable[[list[UUID]], Awaitable[None]],
        wake: Callable[[UUID], None],
        confirm: Callable[[UUID, inbox.Standing, float], None],
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
        leased = [s for s in self._sessions if s.epoch]
        if not leased:
            return
        held = await inbox.renew_leases(
            self._pool,
            [(s.workspace_id, s.epoch) for s in leased],
            seconds=self._lease_seconds,
        )
        for session in leased:
            if session.workspace_id not in held:
                self._wake(session.workspace_id)

    async def check(self) -> None:
        """Wake the sessions that have missed something: wake-ups are hints, the table is truth.

        What is remembered of the others' inboxes has been proven and stays good for a while.
        """
        sessions = list(self._sessions)
        if not sessions:
            return
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

    async def present(self) -> None:
        """An open stream is a sign of life of its workspace."""
        workspace_ids = list({s.workspace_id for s in self._sessions})
        if workspace_ids:
            await self._touch_present(workspace_ids)


def count_fenced() -> None:
    """A session was taken over."""
    _FENCED.inc()
