"""How the processes of a fleet are laid out: in one process each with Envoy, or behind it."""

from __future__ import annotations

from typing import Protocol


class Layout(Protocol):
    """The processes that serve the port."""

    async def start(self) -> None:
        """Start all, keep them running, and return when clients are served."""

    async def stop(self, wait_limit: float) -> None:
        """Let calls in flight finish, for at most `wait_limit` seconds, then end all."""
