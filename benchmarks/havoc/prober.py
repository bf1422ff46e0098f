"""Asks an installation all the time whether it serves, by a write."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx

from benchmarks.harness import Agent as Identity

_EVERY_SECONDS = 0.05
_TIMEOUT_SECONDS = 2.0
# Service is back when every call of so long a time was answered.
_STEADY_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Call:
    """Start, duration and outcome of a call."""

    began: float
    seconds: float
    served: bool


@dataclass(slots=True)
class Prober:
    """Twenty times a second a row for the caller's own record, each call for itself.

    Args:
        calls: every call that has ended.
    """

    http: httpx.AsyncClient
    agent: Identity
    calls: list[Call] = field(default_factory=list)
    _pending: set[float] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[Prober]:
        """Ask for as long as the block lasts."""
        async with asyncio.TaskGroup() as group:
            loop = group.create_task(self._ask_always(group))
            try:
                yield self
            finally:
                loop.cancel()

    async def steady(self, since: float, limit: float) -> float | None:
        """Wait for service; the seconds from `since` until all later calls were answered.

        None when service is not back `limit` seconds after `since`.
        """
        while (now := time.monotonic()) < since + limit:
            await asyncio.sleep(_EVERY_SECONDS)
            if any(since <= began < now - _STEADY_SECONDS / 2 for began in self._pending):
                continue  # nobody knows yet what becomes of this call
            lost = [call.began for call in self.calls if call.began >= since and not call.served]
            good = [call.began for call in self.calls if call.began > max(lost, default=since)]
            if good and max(good) - min(good) >= _STEADY_SECONDS:
                return min(good) - since if lost else 0.0
        return None

    def slowest(self, since: float) -> float:
        """Seconds of the slowest call that was answered, of those that began after `since`."""
        answered = (call.seconds for call in self.calls if call.served and call.began >= since)
        return max(answered, default=0.0)

    async def _ask_always(self, group: asyncio.TaskGroup) -> None:
        while True:
            group.create_task(self._ask())
            await asyncio.sleep(_EVERY_SECONDS)

    async def _ask(self) -> None:
        began = time.monotonic()
        served = False
        self._pending.add(began)
        with contextlib.suppress(httpx.HTTPError):
            answer = await self.http.post(
                f"/workspaces/{self.agent.id}/activity",
                json={"activity_type": "agent_log", "summary": "probe"},
                headers={"authorization": f"Bearer {self.agent.token}"},
                timeout=_TIMEOUT_SECONDS,
            )
            served = answer.is_success
        self._pending.discard(began)
        self.calls.append(Call(began, time.monotonic() - began, served))
