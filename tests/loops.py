"""An event loop for tests that are not coroutines themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.waiting import PATIENCE

T = TypeVar("T")


class Loop:
    """An event loop in a thread, for hypothesis' synchronous steps."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, step: Coroutine[Any, Any, T], *, timeout: float = PATIENCE) -> T:
        """Take a step, at most so many seconds long."""
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(timeout)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
