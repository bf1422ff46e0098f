"""Workers on Unix sockets, and one Envoy in front of them."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from molecule_grpc.server.edge.config import EdgeConfig
from molecule_grpc.server.edge.process import READY_SECONDS, Edge, EdgeError
from molecule_grpc.server.process.child import keep
from molecule_grpc.server.process.host_mode import HostMode
from molecule_grpc.server.process.hosted_names import DSN
from molecule_grpc.server.process.seat import Seat, Spare, replace_all
from molecule_grpc.server.process.worker_process import WorkerProcess
from molecule_grpc.settings.settings import Settings

_READY_POLL_SECONDS = 0.05


class SeparateWorkers:
    """A fleet of workers, a spare one, and the edge before them."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        environment: Mapping[str, str],
        *,
        config: EdgeConfig,
        mode: HostMode,  # noqa: ARG002  (the other layout's)
        run: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._settings = settings
        self._run = run
        # workers + 1: in a restart a new worker is healthy before the old one drains.
        sockets = [
            directory / f"worker-{index}.sock" for index in range(settings.process.workers + 1)
        ]
        config = dataclasses.replace(config, worker_sockets=sockets, vacant_sockets=1)
        self._edge = Edge(config, directory)
        free = list(sockets)

        def make() -> WorkerProcess:
            return WorkerProcess(free, directory / DSN, environment, self._edge.sends_to)

        self._spare = Spare(make) if settings.process.spare_worker else None
        self._seats = [Seat(make, self._spare) for _ in range(settings.process.workers)]

    async def start(self) -> None:
        """Start all, keep them running, and return when clients are served."""
        for index, seat in enumerate(self._seats):
            await seat.start()
            self._run(keep(f"worker {index}", seat))
        await self._edge.start()
        await self._edge.wait_ready()
        self._run(keep("edge", self._edge))
        await self._answering()
        if self._spare:
            self._run(self._spare.keep(lambda: all(seat.process.ready for seat in self._seats)))

    async def restart(self, wait_limit: float) -> None:
        """Replace one worker after the other, each by one that has loaded the program anew.

        The edge goes on: it holds the clients' connections.
        """
        await replace_all(self._seats, self._spare, wait_limit)

    def edges(self) -> Mapping[str, Sequence[Edge]]:
        """The one Envoy."""
        return {"edge": [self._edge] if self._edge.alive else []}

    async def stop(self, wait_limit: float) -> None:
        """Drain the workers behind the edge, then take the edge down."""
        await asyncio.gather(*(seat.stop(wait_limit) for seat in self._seats))
        if self._spare is not None:
            await self._spare.drop()
        await self._edge.stop()

    async def _answering(self) -> None:
        """Wait until the port accepts clients and a worker is healthy, so reaches its database.

        No call is made: where clients need a certificate, this process has none.

        Raises:
            EdgeError: that took longer than a start may take.
        """
        try:
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    if await self._edge.has_healthy_worker() and await self._accepts():
                        return
                    await asyncio.sleep(_READY_POLL_SECONDS)
        except TimeoutError:
            raise EdgeError(
                f"no worker is ready after {READY_SECONDS:g} s; the log of workers says why"
            ) from None

    async def _accepts(self) -> bool:
        """Whether the public port takes a connection, and shows a certificate where it has one."""
        settings = self._settings.edge
        context = None
        if settings.tls:
            context = ssl.create_default_context()
            # The question is whether the edge has a certificate, not whether others trust it.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            _, writer = await asyncio.open_connection(
                settings.local_host, settings.port, ssl=context
            )
        except OSError:  # the edge may just start again
            return False
        writer.close()
        return True
