"""Servers that answer a client of the plugin contract as a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from molecule_grpc.memory.contract.errors import StoreError
from molecule_grpc.memory.contract.objects import MemoryWrite, SearchRequest
from molecule_grpc.memory.plugin.client import PluginClient
from tests.plugin_servers import Handler, answering

SEARCH = SearchRequest(namespaces=["team:a"])
WRITE = MemoryWrite(content="x")
FOUND = {"id": "1", "namespace": "team:a", "content": "x", "kind": "fact", "source": "agent"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Stub:
    """Answers every request alike, and counts them by method and path."""

    def __init__(self, status: int = 200, body: object = None, text: str | None = None) -> None:
        self.status, self.body, self.text = status, body, text
        self.asked: list[str] = []
        self.health = {"status": "ok", "version": "1.0.0", "capabilities": ["fts"]}
        self.hang = False

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if request.path == "/v1/health":
            return web.json_response(self.health)
        if self.hang:
            await asyncio.sleep(60)
        if self.text is not None:
            return web.Response(status=self.status, text=self.text)
        if self.body is None:
            return web.Response(status=self.status)
        return web.json_response(self.body, status=self.status)


@contextlib.asynccontextmanager
async def client_of(
    stub: Handler, *, seconds: float = 2.0, clock: Clock | None = None
) -> AsyncIterator[PluginClient]:
    async with answering(stub) as url:
        client = PluginClient(url, seconds, clock or time.monotonic)
        try:
            yield client
        finally:
            await client.close()


async def failure(client: PluginClient) -> StoreError:
    with pytest.raises(StoreError) as failed:
        await client.search(SEARCH)
    return failed.value
