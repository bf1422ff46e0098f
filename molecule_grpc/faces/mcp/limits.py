"""How many messages a token may send."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """Where a token stands in its window.

    Args:
        reset_seconds: until the next window, at least 1.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """The limit's headers in the answer."""
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-reset": str(self.reset_seconds),
        }


class RateLimit:
    """Windows of a minute, each from the first message of its token. This process counts alone."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._windows: dict[bytes, tuple[float, int]] = {}
        self._sweep_at = clock() + WINDOW_SECONDS

    def charge(self, key: bytes, messages: int = 1) -> RateLimitState:
        """Count messages of a token, unless they are too many: then none of them counts."""
        now = self._clock()
        self._sweep(now)
        end, used = self._windows.get(key, (0.0, 0))
        if end <= now:
            end, used = now + WINDOW_SECONDS, 0
        allowed = used + messages <= self._limit
        if allowed:
            used += messages
        self._windows[key] = (end, used)
        reset = min(math.ceil(end - now), int(WINDOW_SECONDS))
        return RateLimitState(allowed, self._limit, self._limit - used, reset)

    def __len__(self) -> int:
        return len(self._windows)

    def _sweep(self, now: float) -> None:
        """Forget the windows that are over, once a window."""
        if now >= self._sweep_at:
            self._sweep_at = now + WINDOW_SECONDS
            self._windows = {key: one for key, one in self._windows.items() if one[0] > now}
