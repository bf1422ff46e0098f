"""Pairs of agents that hand each other work and files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.harness import Agent as Identity
from benchmarks.havoc.history import History
from molecule_grpc.client import Agent
from molecule_grpc.client.errors import CallError
from molecule_grpc.client.items import Item

_IN_HAND = 8


class Pair:
    """A coordinator and a worker with at most 8 open delegations between them."""

    def __init__(
        self, url: str, source: Identity, target: Identity, folder: Path, history: History
    ) -> None:
        self._source = Agent(url, str(source.id), source.token)
        self._target = Agent(url, str(target.id), target.token)
        self._files = self._target.files(folder)
        self._history = history
        self._room = asyncio.Semaphore(_IN_HAND)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[Pair]:
        """The worker completes tasks and receives files inside."""
        async with self._source, self._target:
            serving = asyncio.create_task(
                self._target.serve(self._work, concurrency=4, files=self._files)
            )
            try:
                yield self
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

    async def run(self, tasks: list[str]) -> None:
        """Delegate every task, and return once every result was received."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._collect(len(tasks)))
            for task in tasks:
                await self._room.acquire()
                await self._delegate(task)

    async def _delegate(self, task: str) -> None:
        """Repeat Delegate until accepted; the idempotency key keeps repeats one delegation."""
        while True:
            try:
                made = await self._source.delegate(
                    self._target.workspace_id, task, idempotency_key=task
                )
            except CallError as error:
                self._history.errors[error.reason] += 1
                await asyncio.sleep(0.2)
            else:
                self._history.accepted[made.id] = task
                return

    async def _work(self, item: Item) -> str:
        self._history.worked[item.delegation_id] += 1
        return f"done: {item.text}"

    async def _collect(self, count: int) -> None:
        seen: set[str] = set()
        async for item in self._source.inbox(max_in_flight=32):
            if item.method != "delegate_result":
                continue
            known = item.delegation_id in seen
            if known and item.delivery == 1:
                self._history.unmarked += 1
            self._history.results.setdefault(item.delegation_id, []).append(
                (item.seq, item.delivery)
            )
            if not known:
                seen.add(item.delegation_id)
                self._room.release()
            if len(seen) >= count:
                return
