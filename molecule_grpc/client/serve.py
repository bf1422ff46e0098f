"""Runs handlers over an inbox: beats while they work, reports results, turns errors into nacks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from molecule_grpc.client.errors import CallError, InvalidArgument, NotFound, TaskFailed
from molecule_grpc.client.files import METHOD as FILE
from molecule_grpc.client.files import Files
from molecule_grpc.client.inbox import Inbox
from molecule_grpc.client.items import Item

log = logging.getLogger(__name__)

Handler = Callable[[Item], Awaitable[str | None]]

# Not `stuck`: a late result of a stuck delegation still reaches its source.
_OVER = frozenset({"completed", "failed"})

_FIRST_RETRY_SECONDS = 2.0
_LAST_RETRY_SECONDS = 300.0


class Worker(Protocol):
    """The methods of an agent that a server calls."""

    async def reply(self, item: Item, text: str, *, timeout: float | None) -> bool: ...
    async def fail(self, item: Item, error: str, *, timeout: float | None) -> bool: ...
    async def beat(self, delegation_id: str) -> str: ...


class _Ended(Exception):
    """The delegation has ended elsewhere: cancelled, overdue, or completed by another call."""


class Server:
    """Runs a handler for each item of an inbox."""

    def __init__(
        self,
        worker: Worker,
        inbox: Inbox,
        handler: Handler,
        *,
        beat_every: float,
        files: Files | None = None,
    ) -> None:
        self._worker = worker
        self._inbox = inbox
        self._handler = handler
        self._beat_every = beat_every
        self._files = files
        self._called_off: dict[str, asyncio.Event] = {}

    async def run(self, concurrency: int) -> None:
        """Serve until cancelled, at most `concurrency` items at once.

        Raises:
            CallError: the inbox ended: see `Inbox`. Handlers were cancelled.
        """
        slots = asyncio.Semaphore(concurrency)
        running: set[asyncio.Task[None]] = set()
        async with self._inbox as inbox:
            try:
                while True:
                    await slots.acquire()
                    task = asyncio.create_task(self._handle(await inbox.next()))
                    running.add(task)
                    task.add_done_callback(running.discard)
                    task.add_done_callback(lambda _: slots.release())
            finally:
                await _end(running)

    async def _handle(self, item: Item) -> None:
        try:
            if self._files is not None and item.method == FILE:
                await self._files.receive(item)
            elif item.is_task:
                await self._work(item)
            elif item.method == "delegate_cancel":
                self._call_off(item.delegation_id)
            else:
                if self._files is not None:
                    await self._files.rewrite(item)
                await self._handler(item)
        except Exception as error:
            log.warning("item %d (%s) failed", item.seq, item.method, exc_info=error)
            wait = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS**item.delivery)
            await item.nack(retry_after=wait, reason=f"{type(error).__name__}: {error}")
        else:
            await item.ack()

    async def _work(self, item: Item) -> None:
        """Run the handler of a task, and report the outcome before the item is acked."""
        try:
            async with self._beating(item):
                text = await self._handler(item)
        except _Ended:
            log.info("delegation %s has ended; its handler stopped", item.delegation_id)
        except TaskFailed as error:
            await self._worker.fail(item, str(error) or "the task failed", timeout=math.inf)
        else:
            if text is not None:
                await self._report(item, text)

    async def _report(self, item: Item, text: str) -> None:
        """Report a result, retried for ever: finished work must not be lost to an outage."""
        try:
            await self._worker.reply(item, text, timeout=math.inf)
        except InvalidArgument as error:
            # Probably longer than 1 MiB: another run of the handler would return the same.
            await self._worker.fail(item, f"the result was refused: {error}", timeout=math.inf)

    @contextlib.asynccontextmanager
    async def _beating(self, item: Item) -> AsyncIterator[None]:
        """Send heartbeats of the delegation while inside; cancel the block when it ends elsewhere.

        Raises:
            _Ended: the delegation has ended elsewhere.
        """
        if await self._has_ended(item):
            raise _Ended
        ended = False
        inside = asyncio.current_task()
        assert inside is not None
        called_off = self._called_off.setdefault(item.delegation_id, asyncio.Event())

        async def beat() -> None:
            nonlocal ended
            while not ended:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(called_off.wait(), self._beat_every)
                called_off.clear()
                with contextlib.suppress(CallError):  # the next beat may get through
                    ended = await self._has_ended(item)
            inside.cancel()

        beats = asyncio.create_task(beat())
        try:
            yield
        except asyncio.CancelledError:
            if ended and inside.uncancel() == 0:
                raise _Ended from None
            raise
        finally:
            beats.cancel()
            self._called_off.pop(item.delegation_id, None)

    def _call_off(self, delegation_id: str) -> None:
        """The source cancelled the delegation: beat now, which tells whether it has ended."""
        if event := self._called_off.get(delegation_id):
            event.set()

    async def _has_ended(self, item: Item) -> bool:
        try:
            return await self._worker.beat(item.delegation_id) in _OVER
        except NotFound:
            return True


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
