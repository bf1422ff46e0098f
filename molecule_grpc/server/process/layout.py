"""The two layouts of a fleet: workers inside Envoy processes, or workers behind one Envoy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from molecule_grpc.server.edge.process import Edge


class Layout(Protocol):
    """The processes that serve the port."""

    async def start(self) -> None:
        """Start all, keep them running, and return when clients are served."""

    async def restart(self, wait_limit: float) -> None:
        """Replace the processes one by one; each successor serves before its predecessor drains.

        Args:
            wait_limit: seconds that calls in flight in one process may take to finish.

        Raises:
            EdgeError: a new process did not get ready; those not yet replaced serve on.
        """

    def edges(self) -> Mapping[str, Sequence[Edge]]:
        """The running Envoys by the name of their seat; two while one replaces the other."""

    async def stop(self, wait_limit: float) -> None:
        """Let calls in flight finish, for at most `wait_limit` seconds, then end all."""
