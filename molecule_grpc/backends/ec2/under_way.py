"""Requests for machines that are under way: a start that was cancelled cannot take its own back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final
from uuid import UUID

_MOST: Final = 1000


class UnderWay:
    """By operation, the request that may still make a machine after its caller was cancelled.

    Whoever undoes the operation waits for the request first: else the machine would come to be
    behind the undo's back.
    """

    def __init__(self) -> None:
        self._requests: dict[UUID, asyncio.Task[str]] = {}

    async def make(self, operation_id: UUID, request: Coroutine[Any, Any, str]) -> str:
        """Wait for a request; a caller that is cancelled leaves the request to go on."""
        task = asyncio.create_task(request)
        # An error that nobody waits for any more is no news.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._requests[operation_id] = task
        # Nobody may ever undo: the oldest are forgotten.
        while len(self._requests) > _MOST:
            del self._requests[next(iter(self._requests))]
        try:
            made = await asyncio.shield(task)
        except Exception:
            self.forget(operation_id)
            raise
        self.forget(operation_id)
        return made

    async def made(self, operation_id: UUID) -> str:
        """Wait until nothing of an operation is under way. What it has made; empty for nothing."""
        task = self._requests.get(operation_id)
        if task is None:
            return ""
        await asyncio.wait([task])
        return "" if task.cancelled() or task.exception() is not None else task.result()

    def forget(self, operation_id: UUID) -> None:
        """An operation is over, or undone."""
        self._requests.pop(operation_id, None)

    async def close(self) -> None:
        """Stop waiting for attempts that run in threads; each thread ends by itself."""
        for task in self._requests.values():
            task.cancel()
        await asyncio.gather(*self._requests.values(), return_exceptions=True)
