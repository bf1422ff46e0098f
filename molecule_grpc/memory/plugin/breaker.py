"""Stops asking a store that fails, and asks it once a minute whether it is back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

log = structlog.get_logger(__name__)

FAILURES_TO_OPEN: Final = 3
OPEN_SECONDS: Final = 60.0

_OPEN = Gauge(
    "molecule_memory_plugin_breaker_open",
    "Whether calls to the memory plugin are refused at once, by direction: 1 or 0.",
    ["direction"],
    multiprocess_mode="livemax",
)
_FAILURES = Counter(
    "molecule_memory_plugin_failures_total",
    "Calls to the memory plugin that it failed or did not answer, by direction.",
    ["direction"],
)
_OPEN_SECONDS = Counter(
    "molecule_memory_plugin_breaker_open_seconds_total",
    "Seconds for which calls to the memory plugin were refused at once, by direction.",
    ["direction"],
)


class Breaker:
    """Three failures in a row open it; 60 s later exactly one call passes as a probe.

    A probe that fails opens it for another 60 s; any success closes it. Each `enter` that passes
    is followed by one of `succeeded`, `failed` and `abandoned`.

    Args:
        direction: `read` or `write`, for metrics and log.
        clock: seconds that never go back.
    """

    def __init__(self, direction: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._direction = direction
        self._clock = clock
        self._failures = 0
        self._open_since: float | None = None
        self._refused_until = 0.0
        self._probing = False
        _OPEN.labels(direction).set(0)

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for the probe."""
        return self._open_since is not None

    def enter(self) -> bool:
        """Whether a call may be made now."""
        if self._open_since is None:
            return True
        if self._probing or self._clock() < self._refused_until:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The store answered, be it with a refusal."""
        if self._open_since is not None:
            _OPEN_SECONDS.labels(self._direction).inc(self._clock() - self._open_since)
            _OPEN.labels(self._direction).set(0)
            log.info("the memory plugin is back", direction=self._direction)
        self._failures, self._open_since, self._probing = 0, None, False

    def failed(self) -> None:
        """The store failed, or did not answer in time."""
        _FAILURES.labels(self._direction).inc()
        self._failures += 1
        was_probe, self._probing = self._probing, False
        if self._open_since is not None:
            if was_probe:
                self._refused_until = self._clock() + OPEN_SECONDS
            return
        if self._failures >= FAILURES_TO_OPEN:
            self._open_since = self._clock()
            self._refused_until = self._open_since + OPEN_SECONDS
            _OPEN.labels(self._direction).set(1)
            log.warning(
                "the memory plugin fails, calls to it are refused at once",
                direction=self._direction,
                seconds=OPEN_SECONDS,
            )

    def abandoned(self) -> None:
        """The caller went away before the store answered: that says nothing of the store."""
        self._probing = False
