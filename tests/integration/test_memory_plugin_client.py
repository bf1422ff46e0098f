"""The client of a memory plugin: typed errors, the breaker, capabilities, bounded answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from molecule_grpc.kernel.holding import Hold
from molecule_grpc.memory.contract.errors import ErrorCode, StoreError
from molecule_grpc.memory.contract.namespaces import NamespacePatch, NamespacePut
from molecule_grpc.memory.contract.objects import MemoryWrite, SearchRequest
from molecule_grpc.memory.plugin.answers import MOST_BODY_BYTES
from molecule_grpc.memory.plugin.breaker import OPEN_SECONDS
from molecule_grpc.memory.plugin.client import CircuitOpen, PluginClient
from tests.flat_plugin import flat_application
from tests.plugin_servers import Handler, answering, serving

SEARCH = SearchRequest(namespaces=["team:a"])
WRITE = MemoryWrite(content="x")
FOUND = {"id": "1", "namespace": "team:a", "content": "x", "kind": "fact", "source": "agent"}

_HUGE = json.dumps({"memories": [FOUND | {"score": 10**400}]})


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


@pytest.mark.parametrize(
    ("stub", "code", "said"),
    [
        (Stub(404, {"code": "not_found", "message": "gone"}), ErrorCode.NOT_FOUND, "gone"),
        (Stub(409, {"code": "odd", "message": "m"}), ErrorCode.BAD_REQUEST, "m"),
        (Stub(403, text="go away"), ErrorCode.FORBIDDEN, "status 403: go away"),
        (Stub(404, text="nothing"), ErrorCode.NOT_FOUND, "status 404: nothing"),
        (Stub(502, text="x" * 1000), ErrorCode.INTERNAL, f"status 502: {'x' * 256}"),
        (Stub(418), ErrorCode.BAD_REQUEST, "status 418"),
        (Stub(302), ErrorCode.BAD_REQUEST, "status 302"),
    ],
)
async def test_every_refusal_has_a_code(stub: Stub, code: ErrorCode, said: str) -> None:
    async with client_of(stub) as client:
        error = await failure(client)
    assert (error.code, error.message, error.status) == (code, said, stub.status)


@pytest.mark.parametrize(
    "text",
    ["garbage", "[]", '{"memories": 1}', '{"memories": [{"id": 1}]}', _HUGE, "[" * 9999],
)
async def test_an_answer_that_cannot_be_understood_is_a_failure(text: str) -> None:
    """Never an empty list, which would read as: there is nothing."""
    async with client_of(Stub(200, text=text)) as client:
        assert (await failure(client)).code is ErrorCode.INTERNAL


async def test_null_instead_of_an_empty_list_is_no_memories() -> None:
    async with client_of(Stub(200, {"memories": None})) as client:
        assert await client.search(SEARCH) == []


async def test_an_answer_without_a_body_is_fine_where_nothing_is_told() -> None:
    async with client_of(Stub(204)) as client:
        await client.forget("flat-1", "team:a")
        await client.delete_namespace("team:a")
        assert (await client.put_namespace("team:a", NamespacePut(kind="team"))).name == "team:a"


async def test_a_large_answer_is_given_up() -> None:
    async with client_of(Stub(200, text="x" * (MOST_BODY_BYTES + 1))) as client:
        assert "larger than" in (await failure(client)).message


async def test_an_id_travels_as_it_is() -> None:
    stub = Stub(204)
    async with client_of(stub) as client:
        await client.forget("flat/1 ü?#", "team:a")
    assert stub.asked == ["DELETE /v1/memories/flat/1 ü?#"]


async def test_what_breaks_the_contract_is_not_sent() -> None:
    stub = Stub()
    async with client_of(stub) as client:
        for wrong in (
            client.search(SearchRequest(namespaces=[])),
            client.search(SearchRequest(namespaces=["team:a"], limit=101)),
            client.commit("team:a", MemoryWrite(content="  ")),
            client.commit("team:a", MemoryWrite(content="x", kind="rumour")),
            client.commit("nothing", WRITE),
            client.patch_namespace("team:a", NamespacePatch()),
            client.forget("1", ""),
        ):
            with pytest.raises(StoreError) as refused:
                await wrong
            assert refused.value.code is ErrorCode.BAD_REQUEST
    assert stub.asked == []


async def test_rows_that_nobody_asked_for_are_dropped() -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    rows = [
        FOUND | {"namespace": "team:b"},
        FOUND | {"expires_at": past},
        FOUND | {"kind": "summary"},
        *[FOUND | {"id": str(n)} for n in range(10)],
    ]
    async with client_of(Stub(200, {"memories": rows})) as client:
        found = await client.search(SearchRequest(namespaces=["team:a"], kinds=["fact"], limit=3))
    assert [memory.id for memory in found] == ["0", "1", "2"]


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


async def test_capabilities_are_what_the_plugin_last_said() -> None:
    stub = Stub(500)
    async with client_of(stub, clock=Clock()) as client:
        assert not client.supports("fts")
        for _ in range(4):
            await failure(client)
        await client.refresh()
        assert client.supports("fts")
        assert not client.supports("embedding")
        assert (await failure(client)).status == 500  # the refresh closed the breaker
        stub.health = {"status": "degraded", "version": "1.0.0", "capabilities": []}
        with pytest.raises(StoreError):
            await client.refresh()
        assert client.supports("fts")
        stub.health = {"status": "ok", "version": "1.1.0", "capabilities": ["embedding"]}
        await client.refresh()
        assert (client.supports("fts"), client.supports("embedding")) == (False, True)


async def test_a_plugin_without_capabilities_works() -> None:
    async with serving(flat_application()) as url:
        client = PluginClient(url, 2.0)
        await client.refresh()
        await client.put_namespace("team:a", NamespacePut(kind="team"))
        written = await client.commit("team:a", MemoryWrite(content="it works"))
        assert written.id == "flat-1"
        assert [memory.content for memory in await client.search(SEARCH)] == ["it works"]
        await client.forget("flat-1", "team:a")
        with pytest.raises(StoreError) as missing:
            await client.forget("flat-1", "team:a")
        assert missing.value.code is ErrorCode.NOT_FOUND
        await client.close()


async def test_nobody_listens() -> None:
    async with serving(flat_application()) as url:
        pass
    client = PluginClient(url, 2.0)
    error = await failure(client)
    assert (error.code, error.counts) == (ErrorCode.UNAVAILABLE, True)
    assert "cannot reach the memory plugin" in error.message
    await client.close()


async def test_it_is_not_asked_while_a_database_connection_is_held() -> None:
    async with client_of(Stub(200, {"memories": []})) as client:
        hold = Hold()
        with pytest.raises(RuntimeError, match="the memory plugin"):
            await client.search(SEARCH)
        hold.release()
