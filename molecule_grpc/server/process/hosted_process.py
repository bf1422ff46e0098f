"""A process of Envoy with a worker in it, as the fleet starts and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from molecule_grpc.server.edge.config import EdgeConfig
from molecule_grpc.server.edge.process import Edge
from molecule_grpc.server.process.beat import last_beat
from molecule_grpc.server.process.host_mode import HostMode
from molecule_grpc.server.process.hosted_names import BEAT, CONTROL, DIRECTORY, OPEN, OPERATOR, Word

# PYTHONPATH of Envoy's process, where no interpreter has looked for packages.
_PACKAGES = os.pathsep.join(path for path in sys.path if path)
# At a stop, load balancers read 503 from /healthz for so long, while every call is still served.
_NOTICE_SECONDS = 2.0
# For so long a client that calls all the time is told to go before the port is closed.
_SENDING_AWAY_SECONDS = 0.7
# Clients that began to connect so long before the port's socket closes are still accepted.
_CLOSING_SECONDS = 0.3
# Between two looks whether everything that was sent has left.
_LOOK_SECONDS = 0.05
_NUMBERS = itertools.count()


class HostedProcess:
    """A worker inside Envoy from its start to its exit, with a directory of its own.

    Args:
        directory: of the fleet.
        environment: what the worker inherits.
    """

    def __init__(
        self,
        directory: Path,
        config: EdgeConfig,
        mode: HostMode,
        environment: Mapping[str, str],
    ) -> None:
        self._directory = directory / f"process-{next(_NUMBERS)}"
        self._metrics = environment["PROMETHEUS_MULTIPROC_DIR"]
        if config.operator_port is not None:
            config = dataclasses.replace(config, worker_sockets=[self._directory / OPERATOR])
        own = {
            "PYTHONHOME": sys.base_prefix,
            "PYTHONPATH": _PACKAGES,
            "LD_PRELOAD": str(mode.libpython),
            DIRECTORY: str(self._directory),
        }
        self.edge = Edge(config, self._directory, {**environment, **own})
        self._fifo = -1
        self._seen = 0

    @property
    def pid(self) -> int:
        """The process, once loaded."""
        return self.edge.pid

    @property
    def alive(self) -> bool:
        """Whether the process has been loaded and has not ended."""
        return self.edge.alive

    @property
    def ready(self) -> bool:
        """Whether the worker has ever beaten."""
        return last_beat(self._directory / BEAT) != 0

    async def load(self) -> None:
        """Start Envoy, whose worker loads the program and waits."""
        self._directory.mkdir(mode=0o700)
        fifo = self._directory / OPEN
        os.mkfifo(fifo, 0o600)
        # Open for both, so that nobody has to read for it to be opened; what is written stays.
        self._fifo = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)
        await self.edge.start()

    def open(self) -> None:
        """Tell the loaded worker to begin serving; returns at once."""
        os.write(self._fifo, b"\n")

    async def wait_ready(self) -> None:
        """Wait until clients are served.

        Raises:
            EdgeError: Envoy ended before, or that took too long.
        """
        await self.edge.wait_ready()

    async def wait(self) -> int:
        """Wait until the process has ended; the exit code."""
        code = await self.edge.wait()
        # Gauges of open streams must not count those of a worker that has ended.
        mark_process_dead(self.pid, self._metrics)  # type: ignore[no-untyped-call]
        if self._fifo >= 0:
            os.close(self._fifo)
            self._fifo = -1
            shutil.rmtree(self._directory, ignore_errors=True)
        return code

    async def answers(self) -> bool:
        """Whether the worker's event loop and Envoy's main thread have turned since last asked."""
        seen, self._seen = self._seen, last_beat(self._directory / BEAT)
        return self._seen not in (0, seen) and await self.edge.answers()

    async def stop(self, wait_limit: float, *, replaced: bool) -> None:
        """Let calls in flight finish, for at most `wait_limit` seconds, then end the process."""
        if not self.alive:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_limit):
                await self._drain(replaced=replaced)
        await self.edge.stop()
        await self.wait()

    async def kill(self) -> None:
        """End the process at once."""
        await self.edge.kill()
        await self.wait()

    async def _drain(self, *, replaced: bool) -> None:
        if not replaced:
            await self._tell(Word.LEAVE)
            await asyncio.sleep(_NOTICE_SECONDS)
        await self.edge.send_away()
        await asyncio.sleep(_SENDING_AWAY_SECONDS)
        if replaced:
            await self._tell(Word.CLOSE)
            await asyncio.sleep(_CLOSING_SECONDS)
        await self.edge.stop_listening()
        await self._tell(Word.DRAIN)
        while not await self.edge.has_sent_everything():  # noqa: ASYNC110  (Envoy has no event)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _tell(self, word: Word) -> None:
        """Say a word to the worker, and wait until it has done what that means."""
        with contextlib.suppress(OSError):  # it has ended, or never began
            reader, writer = await asyncio.open_unix_connection(self._directory / CONTROL)
            with contextlib.closing(writer):
                writer.write(word.encode() + b"\n")
                await reader.read()
