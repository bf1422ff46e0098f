"""gRPC health and reflection. Health says NOT_SERVING while the database does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

_CHECK_SECONDS = 1.0
# While the database is away, so that service is back as soon as the database.
_AWAY_CHECK_SECONDS = 0.2


class Health:
    """Tells load balancers whether to send calls here."""

    def __init__(self, services: Sequence[str], healthy: Callable[[], Awaitable[bool]]) -> None:
        self.services = tuple(services)
        self._names = ("", *services)
        self._healthy = healthy
        self.servicer = HealthServicer()
        self.serving = False
        self._draining = False

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve health, and reflection of every service."""
        health_pb2_grpc.add_HealthServicer_to_server(self.servicer, server)
        reflection.enable_server_reflection(
            (*self._names[1:], "grpc.health.v1.Health", reflection.SERVICE_NAME), server
        )

    async def run(self) -> None:
        """Ask the database every second, and publish the answer. Cancel to stop."""
        while True:
            serving = await self.look()
            await asyncio.sleep(_CHECK_SECONDS if serving else _AWAY_CHECK_SECONDS)

    async def look(self) -> bool:
        """Ask the database now, publish the answer, and return whether calls are served."""
        healthy = await self._healthy()
        self.serving = serving = healthy and not self._draining
        await self._set(
            health_pb2.HealthCheckResponse.SERVING
            if serving
            else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        return serving

    async def drain(self) -> None:
        """Say NOT_SERVING from now on."""
        self._draining = True
        self.serving = False
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def _set(self, status: int) -> None:
        for name in self._names:
            await self.servicer.set(name, status)
