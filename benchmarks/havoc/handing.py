"""Two agents, one of which hands work to the other all the time, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

from benchmarks.harness import Agent as Identity
from molecule_grpc.client import Agent
from molecule_grpc.client.errors import CallError
from molecule_grpc.client.items import Item

_EVERY_SECONDS = 0.05
_AGAIN_SECONDS = 0.2


class Handing:
    """Delegations in a row. A refused one is tried again with the same key until accepted."""

    def __init__(self, url: str, source: Identity, target: Identity) -> None:
        self._source = Agent(url, str(source.id), source.token)
        self._target = Agent(url, str(target.id), target.token)
        self._accepted: set[str] = set()
        self._ended: set[str] = set()

    @property
    def accepted(self) -> int:
        """How many delegations were accepted."""
        return len(self._accepted)

    @property
    def without_end(self) -> int:
        """How many of them have not ended, as far as their caller heard."""
        return len(self._accepted - self._ended)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[Handing]:
        """Hand over work while the block lasts."""
        async with self._source, self._target, asyncio.TaskGroup() as group:
            serving = group.create_task(self._target.serve(self._work))
            hearing = group.create_task(self._hear())
            handing = group.create_task(self._hand_over())
            try:
                yield self
            finally:
                for task in (serving, hearing, handing):
                    task.cancel()

    async def ended(self, limit: float) -> bool:
        """Wait until all that was accepted until now has ended; False after `limit` seconds."""
        known = set(self._accepted)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while not known <= self._ended:  # noqa: ASYNC110  (sets have no event)
                    await asyncio.sleep(_EVERY_SECONDS)
        return known <= self._ended

    async def _hand_over(self) -> None:
        for number in itertools.count():
            await self._delegate(f"task {number}")
            await asyncio.sleep(_EVERY_SECONDS)

    async def _delegate(self, task: str) -> None:
        while True:
            try:
                made = await self._source.delegate(
                    self._target.workspace_id, task, idempotency_key=task
                )
            except CallError:
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self._accepted.add(made.id)
                return

    async def _work(self, item: Item) -> str:
        return f"done: {item.text}"

    async def _hear(self) -> None:
        async for item in self._source.inbox(max_in_flight=32):
            if item.method == "delegate_result":
                self._ended.add(item.delegation_id)
