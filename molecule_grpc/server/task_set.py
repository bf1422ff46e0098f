"""Tasks that go on when the call that started them has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

import structlog

from molecule_grpc.kernel.metered import charged

log = structlog.get_logger(__name__)

T = TypeVar("T")


class TaskSet:
    """Holds tasks until they end.

    At the end of the block the tasks get `wait_limit` seconds, then they are cancelled and awaited.
    """

    def __init__(self, *, wait_limit: float) -> None:
        self._wait_limit = wait_limit
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run this also when the caller is cancelled. An error is logged, awaited or not."""
        task = asyncio.create_task(charged(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._wait_limit)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", task=task.get_name(), exc_info=error)


async def finish(work: Coroutine[Any, Any, T], *, wait_limit: float) -> T:
    """Await this work; when cancelled, let the work go on for up to `wait_limit` seconds first."""
    task = asyncio.create_task(charged(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait({task}, timeout=wait_limit)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        raise
