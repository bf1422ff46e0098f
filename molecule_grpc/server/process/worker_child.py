"""A worker process as a child of the fleet."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from molecule_grpc.server.children import spawn, stop
from molecule_grpc.server.process.beat import last_beat

_COMMAND = (sys.executable, "-m", "molecule_grpc.server.process.worker")


class Spare:
    """A process that has loaded the program, and waits to be told which worker it is.

    Loading takes most of a worker's start: a worker that died is replaced in a fraction of it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    @property
    def there(self) -> bool:
        """Whether a process waits, or loads."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Begin to load a process."""
        self._process = await spawn([*_COMMAND, "--standby"], env=self._environment, piped=True)

    def become(self, words: list[str]) -> asyncio.subprocess.Process | None:
        """Let the process be a worker with these arguments; None when there is no process."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None or process.stdin is None:
            return None
        process.stdin.write(json.dumps(words).encode() + b"\n")
        return process

    async def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            await stop(self._process, wait_limit=1.0)


class WorkerChild:
    """A worker on a Unix socket in `directory`."""

    def __init__(
        self, index: int, directory: Path, environment: Mapping[str, str], spare: Spare | None
    ) -> None:
        self.socket = directory / f"worker-{index}.sock"
        self._beat = directory / f"worker-{index}.beat"
        self._dsn_file = directory / "dsn"
        self._environment = environment
        self._spare = spare
        self._process: asyncio.subprocess.Process | None = None
        self._seen = 0

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def ready(self) -> bool:
        """Whether the worker has ever beaten since its start."""
        return last_beat(self._beat) != 0

    async def start(self) -> None:
        """Start the worker, from the spare process if there is one."""
        self.socket.unlink(missing_ok=True)
        self._beat.unlink(missing_ok=True)
        words = [
            f"--address=unix:{self.socket}",
            f"--dsn-file={self._dsn_file}",
            f"--beat-file={self._beat}",
            "--behind-edge",
        ]
        process = self._spare.become(words) if self._spare else None
        self._process = process or await spawn([*_COMMAND, *words], env=self._environment)

    async def wait(self) -> int:
        """Wait until the worker has ended; the exit code."""
        assert self._process is not None, "not started"
        code = await self._process.wait()
        # Gauges of open streams must not count those of a worker that has ended.
        mark_process_dead(self.pid, self._environment["PROMETHEUS_MULTIPROC_DIR"])  # type: ignore[no-untyped-call]
        return code

    async def answers(self) -> bool:
        """Whether the worker's event loop has turned since the last time that this was asked."""
        seen, self._seen = self._seen, last_beat(self._beat)
        return self._seen not in (0, seen)

    async def stop(self, wait_limit: float) -> None:
        """Send SIGTERM; after `wait_limit` seconds, SIGKILL."""
        if self._process is not None:
            await stop(self._process, wait_limit=wait_limit)
