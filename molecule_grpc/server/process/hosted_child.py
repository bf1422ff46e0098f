"""A worker inside Envoy's process, as a child of the fleet."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
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
from molecule_grpc.server.process.hosted_names import BEAT, CONTROL, DIRECTORY, OPERATOR

# What its process needs to run Python: where its library and packages are.
_PACKAGES = os.pathsep.join(path for path in sys.path if path)


class HostedChild:
    """Starts a worker inside Envoy any number of times, each time in a directory of its own.

    Args:
        directory: of the fleet.
        environment: what the worker inherits.
    """

    def __init__(
        self,
        index: int,
        directory: Path,
        config: EdgeConfig,
        mode: HostMode,
        environment: Mapping[str, str],
    ) -> None:
        self._name = f"worker-{index}"
        self._fleet_directory = directory
        self._config = config
        self._environment = {
            **environment,
            "PYTHONHOME": sys.base_prefix,
            "PYTHONPATH": _PACKAGES,
            "LD_PRELOAD": str(mode.libpython),
        }
        self._starts = 0
        self._edge: Edge | None = None
        self._seen = 0

    @property
    def _directory(self) -> Path:
        return self._fleet_directory / f"{self._name}.{self._starts}"

    @property
    def pid(self) -> int:
        """The process that was started last."""
        return self._running.pid

    @property
    def _running(self) -> Edge:
        assert self._edge is not None, "not started"
        return self._edge

    async def start(self) -> None:
        """Start Envoy, and the worker in it."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._starts += 1
        directory = self._directory
        directory.mkdir(mode=0o700)
        config = self._config
        if config.operator_port is not None:
            config = dataclasses.replace(config, worker_sockets=[directory / OPERATOR])
        self._edge = Edge(config, directory, {**self._environment, DIRECTORY: str(directory)})
        await self._edge.start()

    async def wait_ready(self) -> None:
        """Wait until clients are served.

        Raises:
            EdgeError: Envoy ended before, or that took longer than a start may take.
        """
        await self._running.wait_ready()

    async def wait(self) -> int:
        """Wait until the process has ended; the exit code."""
        code = await self._running.wait()
        # Gauges of open streams must not count those of a worker that has ended.
        mark_process_dead(self.pid, self._environment["PROMETHEUS_MULTIPROC_DIR"])  # type: ignore[no-untyped-call]
        return code

    async def answers(self) -> bool:
        """Whether the worker's event loop and Envoy's main thread have turned since last asked."""
        seen, self._seen = self._seen, last_beat(self._directory / BEAT)
        return self._seen not in (0, seen) and await self._running.answers()

    async def stop(self, wait_limit: float) -> None:
        """Let calls in flight finish, for at most `wait_limit` seconds, then end the process."""
        if self._edge is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_limit):
                await self._drain()
        await self._edge.stop()

    async def _drain(self) -> None:
        await self._running.stop_listening()
        with contextlib.suppress(OSError):  # it has ended, or never began
            reader, writer = await asyncio.open_unix_connection(self._directory / CONTROL)
            with contextlib.closing(writer):
                await reader.read()
