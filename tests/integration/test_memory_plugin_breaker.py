"""Which failures open and close the breakers of a plugin's client, and which calls it repeats."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from molecule_grpc.memory.contract.errors import ErrorCode, StoreError
from molecule_grpc.memory.contract.objects import MemoryWrite
from molecule_grpc.memory.plugin.breaker import OPEN_SECONDS
from molecule_grpc.memory.plugin.client import CircuitOpen, PluginClient
from tests.integration.plugin_stubs import SEARCH, WRITE, Clock, Stub, client_of, failure


async def test_three_failures_open_the_breaker_and_one_probe_closes_it() -> None:
    stub, clock = Stub(500), Clock()
    async with client_of(stub, clock=clock) as client:
        for _ in range(3):
            assert (await failure(client)).status == 500
        asked = len(stub.asked)
        assert isinstance(await failure(client), CircuitOpen)
        clock.now += OPEN_SECONDS - 1
        assert isinstance(await failure(client), CircuitOpen)
        assert len(stub.asked) == asked
        clock.now += 1
        assert (await failure(client)).status == 500
        assert isinstance(await failure(client), CircuitOpen)  # the probe failed: 60 s more
        clock.now += OPEN_SECONDS
        stub.status, stub.body = 200, {"memories": []}
        assert await client.search(SEARCH) == []
        assert await client.search(SEARCH) == []


async def test_of_many_that_wait_for_the_breaker_one_probes() -> None:
    stub, clock = Stub(500), Clock()
    async with client_of(stub, clock=clock, seconds=0.5) as client:
        for _ in range(3):
            await failure(client)
        clock.now += OPEN_SECONDS
        stub.asked.clear()
        stub.hang = True
        errors = await asyncio.gather(*(failure(client) for _ in range(50)))
    assert sum(isinstance(error, CircuitOpen) for error in errors) == 49
    assert len(stub.asked) == 1


async def test_refusals_never_open_it_and_reset_the_count() -> None:
    stub = Stub(500)
    async with client_of(stub) as client:
        for status in (500, 500, 400, 500, 500, 404, 500, 500, 403):
            stub.status = status
            assert (await failure(client)).status == status
        for _ in range(10):
            await failure(client)
        stub.status, stub.body = 200, {"memories": []}
        assert await client.search(SEARCH) == []


async def test_a_caller_that_goes_away_is_no_failure_and_a_slow_plugin_is() -> None:
    stub = Stub()
    stub.hang = True
    async with client_of(stub, seconds=5.0) as client:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.search(SEARCH)
        stub.hang, stub.body = False, {"memories": []}
        assert await client.search(SEARCH) == []
    stub.hang = True
    async with client_of(stub, seconds=0.1) as client:
        for _ in range(3):
            assert (await failure(client)).code is ErrorCode.UNAVAILABLE
        assert isinstance(await failure(client), CircuitOpen)


async def test_a_probe_that_is_given_up_lets_the_next_one_try() -> None:
    stub, clock = Stub(500), Clock()
    async with client_of(stub, clock=clock) as client:
        for _ in range(3):
            await failure(client)
        clock.now += OPEN_SECONDS
        stub.hang = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.search(SEARCH)
        stub.hang, stub.status, stub.body = False, 200, {"memories": []}
        assert await client.search(SEARCH) == []


async def test_searches_that_fail_leave_writes_alone() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/search":
            return web.Response(status=500)
        return web.json_response({"id": "1", "namespace": "team:a"}, status=201)

    async with client_of(handler) as client:
        for _ in range(4):
            await failure(client)
        assert (await client.commit("team:a", WRITE)).id == "1"


async def test_only_what_may_be_repeated_is_repeated() -> None:
    stub = Stub(500)
    with_id = MemoryWrite(content="x", id="5c1c4de0-7f0a-4e6b-9d3c-0d1a4a4a0001")
    calls: list[tuple[Callable[[PluginClient], Awaitable[object]], int]] = [
        (lambda client: client.search(SEARCH), 2),
        (lambda client: client.forget("1", "team:a"), 2),
        (lambda client: client.commit("team:a", with_id), 2),
        (lambda client: client.commit("team:a", WRITE), 1),
    ]
    for call, times in calls:
        stub.asked.clear()
        async with client_of(stub) as client:
            with pytest.raises(StoreError):
                await call(client)
        assert len(stub.asked) == times
