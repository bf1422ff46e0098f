"""N equal processes on one port, each an Envoy with a worker in it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from molecule_grpc.server.edge.config import EdgeConfig
from molecule_grpc.server.edge.filters import hosted_worker
from molecule_grpc.server.edge.process import Edge
from molecule_grpc.server.process.child import keep
from molecule_grpc.server.process.held_port import HeldPort
from molecule_grpc.server.process.host_mode import HostMode
from molecule_grpc.server.process.hosted_process import HostedProcess
from molecule_grpc.server.process.seat import Seat, Spare, replace_all
from molecule_grpc.settings.settings import Settings

# What Envoy loads.
_APPLICATION = "molecule_grpc.server.process.hosted_entry:app"
# Python allocates from the heap that Envoy counts: 28 MiB once loaded, and what calls hold.
_PYTHON_BYTES = 128 * 1024 * 1024


class InsideEnvoy:
    """A fleet whose processes share the port, and nothing else."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        environment: Mapping[str, str],
        *,
        config: EdgeConfig,
        mode: HostMode,
        run: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        assert mode.module is not None
        config = dataclasses.replace(
            config,
            hosted=hosted_worker(mode.module, _APPLICATION),
            concurrency=1,
            memory_bytes=config.memory_bytes // settings.process.workers + _PYTHON_BYTES,
        )
        self._run = run
        self._ports = contextlib.ExitStack()
        self._addresses = [(config.host, config.port)]
        if config.operator_port is not None:
            self._addresses.append((config.operator_host, config.operator_port))

        def make() -> HostedProcess:
            return HostedProcess(directory, config, mode, environment)

        self._spare = Spare(make) if settings.process.spare_worker else None
        self._seats = [Seat(make, self._spare) for _ in range(settings.process.workers)]

    async def start(self) -> None:
        """Start all, keep them running, and return when clients are served.

        Raises:
            EdgeError: somebody has the port.
        """
        for host, port in self._addresses:
            self._ports.enter_context(contextlib.closing(HeldPort(host, port)))
        for seat in self._seats:
            await seat.start()
        await asyncio.gather(*(seat.process.wait_ready() for seat in self._seats))
        for index, seat in enumerate(self._seats):
            self._run(keep(_name(index), seat))
        if self._spare:
            self._run(self._spare.keep(lambda: all(seat.process.ready for seat in self._seats)))

    async def restart(self, wait_limit: float) -> None:
        """Replace one process after the other, each by one that has loaded the program anew."""
        await replace_all(self._seats, self._spare, wait_limit)

    def edges(self) -> Mapping[str, Sequence[Edge]]:
        """Of each seat those that run; the spare one listens nowhere."""
        return {
            _name(index): [process.edge for process in seat.processes if process.alive]
            for index, seat in enumerate(self._seats)
        }

    async def stop(self, wait_limit: float) -> None:
        """Let calls in flight finish, for at most `wait_limit` seconds, then end all."""
        if self._spare is not None:
            await self._spare.drop()
        await asyncio.gather(*(seat.stop(wait_limit) for seat in self._seats))
        self._ports.close()


def _name(index: int) -> str:
    """Of a seat, in logs and metrics."""
    return f"worker {index}"
