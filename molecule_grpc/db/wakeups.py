"""Wake-ups: tell those who wait for news of a workspace or a delegation, in every process.

A wake-up says "look" and carries no data. A lost wake-up costs time, never correctness: everybody
who waits also looks by itself every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID, uuid5

import structlog

from molecule_grpc.db.pool import Writer

log = structlog.get_logger(__name__)

CHANNEL = "molecule_wake"
# A payload may hold 8000 bytes: 200 ids of 32 characters, and the sender.
_IDS_PER_NOTIFY = 200
_EVERYBODY = "*"
# At least 2 ms between two NOTIFYs: each wakes all other workers, and reading many messages costs
# them little more than reading one. A wake-up after a pause goes out at once.
_PACE_SECONDS = 0.002


_DELEGATIONS = UUID("0f6b1c52-6f4e-5a39-9d0b-6d1f1f1c7a10")


def delegation_key(delegation_id: str) -> UUID:
    """The key under which news of a delegation are watched and announced."""
    return uuid5(_DELEGATIONS, delegation_id)


class Flag:
    """A waiter's flag. The flag is set while there may be news of the workspace.

    One task at a time waits. The timer of a wait that news ended stays for the next wait: a stream
    that waits 15 s again and again has a timer every 15 s, not one for each message.
    """

    __slots__ = ("_due", "_raised", "_timer", "_until", "_waiter", "workspace_id")

    def __init__(self, workspace_id: UUID) -> None:
        self.workspace_id = workspace_id
        self._raised = True
        self._waiter: asyncio.Future[bool] | None = None
        # When the wait ends without news, and when the timer looks whether that is now.
        self._until = self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self) -> None:
        """There may be news."""
        self._raised = True
        self._end_wait(news=True)

    @property
    def raised(self) -> bool:
        """Whether there may be news."""
        return self._raised

    def clear(self) -> None:
        """Forget old news. Clear before reading, never after: news during the read set it again."""
        self._raised = False

    async def wait(self, timeout: float) -> bool:
        """Wait for news; False when none came within `timeout` seconds."""
        if self._raised:
            return True
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        self._until = loop.time() + timeout
        if self._until < self._due:
            self._arm(loop)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """Nobody will wait any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._due = None, math.inf

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = self._until
        self._timer = loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._timer, self._due = None, math.inf
        if self._waiter is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._until:
            self._end_wait(news=False)
        elif self._until < math.inf:
            self._arm(loop)

    def _end_wait(self, *, news: bool) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(news)


class Wakeups:
    """Flags by workspace.

    Args:
        writer: connection for NOTIFY, outside every writing transaction: a NOTIFY inside one
            makes Postgres serialise commits. None keeps wake-ups in this process.
        worker: the name of this process, which ignores its own notifications.
    """

    def __init__(self, writer: Writer | None, worker: str) -> None:
        self._writer = writer
        self._worker = worker
        self._flags: dict[UUID, set[Flag]] = {}
        self._outgoing: set[UUID] = set()
        self._something = asyncio.Event()
        self._forget: Callable[[UUID], None] = lambda _: None
        self._forget_all: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def watch(self, workspace_id: UUID) -> Iterator[Flag]:
        """A flag for news of this workspace, while inside the block. The flag starts set."""
        flag = Flag(workspace_id)
        flags = self._flags.setdefault(workspace_id, set())
        flags.add(flag)
        try:
            yield flag
        finally:
            flag.close()
            flags.discard(flag)
            if not flags:
                self._flags.pop(workspace_id, None)

    def on_news(self, forget: Callable[[UUID], None], forget_all: Callable[[], None]) -> None:
        """Name the cache's functions that forget one key or all, called before waiters wake."""
        self._forget, self._forget_all = forget, forget_all

    def wake(self, workspace_ids: Iterable[UUID]) -> None:
        """There is news, committed: tell this process now and the others soon."""
        ids = list(workspace_ids)
        for workspace_id in ids:
            self._forget(workspace_id)
        self.announce(ids)

    def announce(self, workspace_ids: Iterable[UUID]) -> None:
        """Like `wake`, for news that the cache holds already."""
        for workspace_id in workspace_ids:
            self._raise_flags(workspace_id)
            self._outgoing.add(workspace_id)
        self._something.set()

    def wake_here(self, workspace_id: UUID) -> None:
        """Tell this process only."""
        self._forget(workspace_id)
        self._raise_flags(workspace_id)

    def _raise_flags(self, workspace_id: UUID) -> None:
        for flag in self._flags.get(workspace_id, ()):
            flag.set()

    def wake_everybody(self) -> None:
        """Wake every waiter of this process: wake-ups may have been missed."""
        self._forget_all()
        for flags in self._flags.values():
            for flag in flags:
                flag.set()

    def watched(self) -> list[UUID]:
        """Workspaces with a waiter in this process."""
        return list(self._flags)

    def hear(self, payload: str) -> None:
        """Another worker's notification arrived."""
        worker, _, ids = payload.partition(" ")
        if worker == self._worker:
            return
        if ids == _EVERYBODY:
            self.wake_everybody()
            return
        for text in ids.split(","):
            with contextlib.suppress(ValueError):
                self.wake_here(UUID(text))

    async def run(self) -> None:
        """Send NOTIFYs until cancelled, each with all ids since the previous one."""
        sent_at = -math.inf
        while True:
            await self._something.wait()
            await asyncio.sleep(sent_at + _PACE_SECONDS - time.monotonic())
            sent_at = time.monotonic()
            self._something.clear()
            ids, self._outgoing = self._outgoing, set()
            if self._writer is not None and ids:
                await self._notify(ids)

    async def _notify(self, ids: set[UUID]) -> None:
        assert self._writer is not None
        if len(ids) > 5 * _IDS_PER_NOTIFY:
            payloads = [_EVERYBODY]
        else:
            names = [workspace_id.hex for workspace_id in ids]
            payloads = [
                ",".join(names[start : start + _IDS_PER_NOTIFY])
                for start in range(0, len(names), _IDS_PER_NOTIFY)
            ]
        try:
            await self._writer.fetch(
                "SELECT pg_notify($1, p) FROM unnest($2::text[]) p",
                CHANNEL,
                [f"{self._worker} {payload}" for payload in payloads],
            )
        except Exception as error:  # noqa: BLE001  (waiters look by themselves)
            log.warning("wake-up not sent", error=type(error).__name__)
