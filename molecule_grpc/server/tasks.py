"""Background tasks: idempotent steps that run on every worker, on a period and when nudged."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger(__name__)

_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0


@dataclass(slots=True)
class BackgroundTask:
    """A step without arguments, which finds its work in the database.

    The step runs at start, so that work left by a crash is found, and then every `period` seconds.
    After a failure, which is logged, it runs again in 1 s, doubling to 30 s or the period.

    Args:
        explained: whether a failure is logged elsewhere already, so that this task is silent.
    """

    name: str
    period: float
    step: Callable[[], Awaitable[object]]
    timeout: float = 60.0
    last_success: float | None = None
    failures: int = 0
    explained: Callable[[Exception], Awaitable[bool]] | None = None
    _nudged: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Run for ever. Cancel to stop."""
        while True:
            self._nudged.clear()
            await self.run_once()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._delay()):
                    await self._nudged.wait()

    async def run_once(self) -> None:
        """One step. Never raises."""
        try:
            async with asyncio.timeout(self.timeout):
                await self.step()
        except Exception as error:
            self.failures += 1
            if self.explained is None or not await self.explained(error):
                log.exception("background task failed", task=self.name, failures=self.failures)
        else:
            self.failures = 0
            self.last_success = time.time()

    def nudge(self) -> None:
        """Run the step now instead of at the end of the period."""
        self._nudged.set()

    def _delay(self) -> float:
        if not self.failures:
            return self.period
        backoff = _FIRST_RETRY_SECONDS * 2.0 ** min(self.failures - 1, 10)
        return min(backoff, _LAST_RETRY_SECONDS, self.period)
