"""Health and reflection of gRPC, which have no row in the policy table and pass by the pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from molecule_grpc.kernel.errors import MoleculeError, NotFound
from molecule_grpc.server.hosts.envoy.exchange import Exchange
from molecule_grpc.server.hosts.health import Health
from molecule_grpc.server.hosts.requests import parsed
from molecule_grpc.server.status import render

Serve = Callable[[Exchange], Awaitable[None]]
_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"


def native_rpcs(health: Health) -> dict[str, Serve]:
    """By path, what serves each."""
    servicer: Any = health.servicer
    names = (*health.services, "grpc.health.v1.Health", reflection.SERVICE_NAME)
    reflecting: Any = reflection.aio.ReflectionServicer(names)

    async def check(exchange: Exchange, requests: AsyncIterator[Any]) -> None:
        request = await anext(requests)
        await exchange.answer(
            (await servicer.Check(request, _Context(exchange))).SerializeToString()
        )

    async def watch(exchange: Exchange, requests: AsyncIterator[Any]) -> None:
        await servicer.Watch(await anext(requests), _Context(exchange))

    async def reflect(exchange: Exchange, requests: AsyncIterator[Any]) -> None:
        async for response in reflecting.ServerReflectionInfo(requests, None):
            await exchange.write(response.SerializeToString())
        await exchange.end()

    request = health_pb2.HealthCheckRequest
    return {
        f"{_HEALTH}Check": _serving(check, request),
        f"{_HEALTH}Watch": _serving(watch, request),
        _REFLECTION: _serving(reflect, reflection_pb2.ServerReflectionRequest),
    }


class _Context:
    """What the health servicer uses of gRPC's context."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def write(self, message: Message) -> None:
        await self._exchange.write(message.SerializeToString())

    async def abort(self, code: grpc.StatusCode, details: str = "") -> None:
        assert code is grpc.StatusCode.NOT_FOUND
        raise NotFound(details)


def _serving(serve: Callable[[Exchange, AsyncIterator[Any]], Any], kind: type[Message]) -> Serve:
    async def served(exchange: Exchange) -> None:
        try:
            await serve(exchange, parsed(kind, exchange.messages()))
        except MoleculeError as error:
            raise render(error) from error
        except StopAsyncIteration:
            raise render(MoleculeError("the request has no message")) from None

    return served
