"""How many clients are connected to each process, asked of Envoy when metrics are read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import Gauge, Metric
from prometheus_client.registry import Collector

from molecule_grpc.server.edge.process import Edge

_CONNECTIONS = Gauge(
    "molecule_edge_connections",
    "Connections of clients that are open, by the process that holds them.",
    ["process"],
)
_ANSWER_SECONDS = 2.0
Edges = Mapping[str, Sequence[Edge]]


class ConnectionCounts(Collector):
    """Yields one gauge, of those processes alone that answer now.

    Args:
        edges: the running processes by the name of their seat; two while one replaces the other.
        loop: the event loop on which they are asked.
    """

    def __init__(self, edges: Callable[[], Edges], loop: asyncio.AbstractEventLoop) -> None:
        self._edges = edges
        self._loop = loop
        # Each reader of metrics has a thread, and all share the gauge.
        self._reading = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """The gauge as it is now. Called by a thread that is not the loop's."""
        with self._reading:
            asked = asyncio.run_coroutine_threadsafe(self._counts(), self._loop)
            counts = asked.result(timeout=2 * _ANSWER_SECONDS)
            _CONNECTIONS.clear()
            for name, count in counts.items():
                _CONNECTIONS.labels(name).set(count)
            metrics = list(_CONNECTIONS.collect())
        yield from metrics

    async def _counts(self) -> dict[str, int]:
        edges = [(name, edge) for name, found in self._edges().items() for edge in found]
        answers = await asyncio.gather(*(_connections(edge) for _, edge in edges))
        counts: dict[str, int] = {}
        for (name, _), count in zip(edges, answers, strict=True):
            if count is not None:
                counts[name] = counts.get(name, 0) + count
        return counts


async def _connections(edge: Edge) -> int | None:
    """Of one process; None when it does not answer in time."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await edge.connections()
    except TimeoutError:
        return None
