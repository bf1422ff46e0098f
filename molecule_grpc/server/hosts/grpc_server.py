"""The gRPC server of one worker, with health and reflection, on one address."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import grpc

from molecule_grpc.server.hosts.grpc_aio import OPTIONS, add_methods
from molecule_grpc.server.hosts.health import Health
from molecule_grpc.server.hosts.scheduling import poller_affinity
from molecule_grpc.server.methods import Method
from molecule_grpc.server.pipeline import Pipeline
from molecule_grpc.server.unread import Unread


class GrpcServer:
    """Serves methods through the pipeline, and health of the database beside them.

    Args:
        address: `unix:PATH` or `HOST:PORT`.
        unread: counts what clients of streams have not taken.
        healthy: whether calls would be answered; asked once a second.
        write_seconds: a stream ends whose client takes no message for this many seconds.
    """

    def __init__(
        self,
        address: str,
        methods: Sequence[Method],
        pipeline: Pipeline,
        unread: Unread,
        *,
        healthy: Callable[[], Awaitable[bool]],
        write_seconds: float,
    ) -> None:
        self._server = grpc.aio.server(options=OPTIONS)
        add_methods(self._server, methods, pipeline, unread, write_seconds=write_seconds)
        self._health = Health(sorted({method.service for method in methods}), healthy)
        self._health.add_to(self._server)
        self._server.add_insecure_port(address)

    async def start(self) -> None:
        """Accept calls. Health is known before the first one."""
        await self._health.look()
        await self._server.start()

    async def run(self) -> None:
        """Keep health true and the poller near the loop. Runs until cancelled, after `start`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keep_health())
            group.create_task(poller_affinity().run())

    async def keep_health(self) -> None:
        """Keep health true. Runs until cancelled, after `start`."""
        await self._health.run()

    async def leave(self) -> None:
        """Say NOT_SERVING from now on. Calls are still served."""
        await self._health.drain()

    async def stop(self, grace: float) -> None:
        """Refuse new calls; after `grace` seconds cancel those in flight."""
        await self._server.stop(grace)
