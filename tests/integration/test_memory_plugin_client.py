"""The client of a memory plugin: typed errors, the breaker, capabilities, bounded answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from molecule_grpc.kernel.holding import Hold
from molecule_grpc.memory.contract.errors import ErrorCode, StoreError
from molecule_grpc.memory.contract.namespaces import NamespacePatch, NamespacePut
from molecule_grpc.memory.contract.objects import MemoryWrite, SearchRequest
from molecule_grpc.memory.plugin.answers import MOST_BODY_BYTES
from molecule_grpc.memory.plugin.client import PluginClient
from tests.flat_plugin import flat_application
from tests.integration.plugin_stubs import FOUND, SEARCH, WRITE, Clock, Stub, client_of, failure
from tests.plugin_servers import serving

_HUGE = json.dumps({"memories": [FOUND | {"score": 10**400}]})


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
