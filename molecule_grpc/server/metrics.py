"""Prometheus metrics of calls. Series are bound in advance, because `.labels()` costs 1 µs."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Histogram

from molecule_grpc.server.status import Code

_REQUESTS = Counter(
    "molecule_grpc_requests_total", "Calls that ended, by RPC and code.", ["method", "code"]
)
_SECONDS = Histogram(
    "molecule_grpc_request_seconds",
    "How long unary calls took.",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300),
)


class CallMetrics:
    """Counts and times calls. Labels are RPC names and codes, never ids."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._ok = {path: _REQUESTS.labels(path, Code.OK.name) for path in paths}
        self._seconds = {path: _SECONDS.labels(path) for path in self._ok}

    def ended(self, path: str, code: Code, seconds: float | None) -> None:
        """A call ended; `seconds` is None for a stream, whose length says nothing."""
        if code is Code.OK:
            self._ok[path].inc()
        else:
            _REQUESTS.labels(path, code.name).inc()
        if seconds is not None:
            self._seconds[path].observe(seconds)
