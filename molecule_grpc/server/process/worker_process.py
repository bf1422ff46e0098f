"""A worker process behind the edge, as the fleet starts and ends it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from molecule_grpc.server.children import spawn, stop
from molecule_grpc.server.edge.process import READY_SECONDS, EdgeError
from molecule_grpc.server.process.beat import last_beat

_COMMAND = (sys.executable, "-m", "molecule_grpc.server.process.worker", "--standby")
_READY_POLL_SECONDS = 0.05


class WorkerProcess:
    """A worker from its start to its exit, on a Unix socket that the edge knows.

    Args:
        sockets: those at which no worker listens; one is taken from it and given back.
        dsn_file: holds the database's URL.
        serves: whether the edge sends calls to a socket.
    """

    def __init__(
        self,
        sockets: list[Path],
        dsn_file: Path,
        environment: Mapping[str, str],
        serves: Callable[[Path], Awaitable[bool]],
    ) -> None:
        self._sockets = sockets
        self._dsn_file = dsn_file
        self._environment = environment
        self._serves = serves
        self._socket: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._seen = 0

    @property
    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "not started"
        return self._process

    @property
    def _beat(self) -> Path:
        assert self._socket is not None, "not opened"
        return self._socket.with_suffix(".beat")

    @property
    def pid(self) -> int:
        """The process, once loaded."""
        return self._running.pid

    @property
    def alive(self) -> bool:
        """Whether the process has been loaded and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def ready(self) -> bool:
        """Whether the worker has ever beaten."""
        return self._socket is not None and last_beat(self._beat) != 0

    async def load(self) -> None:
        """Start a process that loads the program, and waits."""
        self._process = await spawn(_COMMAND, env=self._environment, piped=True)

    def open(self) -> None:
        """Tell the loaded process to serve at a free socket; returns at once."""
        self._socket = self._sockets.pop(0)
        self._socket.unlink(missing_ok=True)
        self._beat.unlink(missing_ok=True)
        words = [
            f"--address=unix:{self._socket}",
            f"--dsn-file={self._dsn_file}",
            f"--beat-file={self._beat}",
            "--behind-edge",
        ]
        assert self._running.stdin is not None
        self._running.stdin.write(json.dumps(words).encode() + b"\n")

    async def wait_ready(self) -> None:
        """Wait until the edge sends calls here.

        Raises:
            EdgeError: the worker ended before, or that took too long.
        """
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._served()
        except TimeoutError:
            raise EdgeError(f"a worker was not ready after {READY_SECONDS:g} s") from None

    async def _served(self) -> None:
        assert self._socket is not None
        while not (self.ready and await self._serves(self._socket)):
            if not self.alive:
                raise EdgeError(f"a worker ended with {await self.wait()} before it was ready")
            await asyncio.sleep(_READY_POLL_SECONDS)

    async def wait(self) -> int:
        """Wait until the worker has ended; the exit code."""
        code = await self._running.wait()
        # Gauges of open streams must not count those of a worker that has ended.
        mark_process_dead(self.pid, self._environment["PROMETHEUS_MULTIPROC_DIR"])  # type: ignore[no-untyped-call]
        if self._socket is not None:
            self._sockets.append(self._socket)
            self._socket = None
        return code

    async def answers(self) -> bool:
        """Whether the worker's event loop has turned since the last time that this was asked."""
        if self._socket is None:
            return False
        seen, self._seen = self._seen, last_beat(self._beat)
        return self._seen not in (0, seen)

    async def stop(self, wait_limit: float, *, replaced: bool) -> None:  # noqa: ARG002
        """Send SIGTERM; after `wait_limit` seconds, SIGKILL."""
        if self.alive:
            await stop(self._running, wait_limit=wait_limit)
            await self.wait()

    async def kill(self) -> None:
        """End the process at once."""
        await stop(self._running, wait_limit=0)
        await self.wait()
