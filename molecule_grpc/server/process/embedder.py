"""The embedder process, as the fleet starts and ends it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from molecule_grpc.server.children import spawn, stop
from molecule_grpc.server.process.beat import last_beat

# By name: what the process runs stands above this room.
_MODULE = "molecule_grpc.memory.embedding.process"
# Freed memory goes back to the system, instead of staying with the process.
_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
SOCKET = "embedder.sock"
VARIABLE = "MEMORY_EMBED_SOCKET"


class EmbedderProcess:
    """A process with the model that all workers of the fleet share.

    Args:
        directory: where its socket is made.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.socket = directory / SOCKET
        self._beat = directory / "embedder.beat"
        self._environment = {**environment, **_MALLOC}
        self._process: asyncio.subprocess.Process | None = None
        self._seen = 0

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None, "not started"
        return self._process.pid

    async def start(self) -> None:
        """Start the process. Returns before the model is loaded, which takes a second or more."""
        self._beat.unlink(missing_ok=True)
        self._seen = 0
        command = (sys.executable, "-m", _MODULE, self.socket, self._beat)
        self._process = await spawn(command, env=self._environment)

    async def wait(self) -> int:
        """Wait until the process has ended; the exit code."""
        assert self._process is not None, "not started"
        return await self._process.wait()

    async def answers(self) -> bool:
        """Whether the process gave a sign of life since the last call; False before the first."""
        beat = last_beat(self._beat)
        heard = beat not in {0, self._seen}
        self._seen = beat
        return heard

    async def stop(self, wait_limit: float) -> None:
        """End the process; after `wait_limit` seconds by force."""
        if self._process is not None:
            await stop(self._process, wait_limit=wait_limit)
