"""The conformance pack: our own server passes all 21 checks, a flat server fails none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from molecule_grpc.db.pool import Pool
from molecule_grpc.memory.contract.conformance import Outcome, Result, conformance
from molecule_grpc.memory.contract.errors import ErrorCode, StoreError
from molecule_grpc.memory.contract.namespaces import NamespacePut
from molecule_grpc.memory.contract.objects import MemoryWrite, SearchRequest
from molecule_grpc.memory.contract.postgres import PostgresStore
from molecule_grpc.memory.plugin.server import contract_application
from tests.flat_plugin import flat_application
from tests.integration.workspaces import ORGANIZATION
from tests.plugin_servers import serving


@pytest.fixture
async def store(pool: Pool) -> PostgresStore:
    return PostgresStore(pool, ORGANIZATION)


@pytest.fixture
async def url(store: PostgresStore) -> AsyncIterator[str]:
    async with serving(contract_application(store)) as served:
        yield served


async def all_results(url: str) -> list[Result]:
    return [result async for result in conformance(url)]


async def test_our_own_server_passes_every_check(url: str) -> None:
    results = await all_results(url)
    assert [result for result in results if result.outcome is not Outcome.PASSED] == []
    assert len(results) == 21


async def test_a_flat_server_passes_what_it_must() -> None:
    async with serving(flat_application()) as url:
        results = await all_results(url)
    assert [result for result in results if result.outcome is Outcome.FAILED] == []
    missing = {result.name for result in results if result.outcome is Outcome.NOT_CLAIMED}
    assert len(missing) == 6
    advice = {result.name for result in results if result.outcome is Outcome.ADVICE}
    assert {"upserts by id", "honours the limit", "filters by kind"} <= advice


async def test_nobody_at_the_url_fails_the_first_check() -> None:
    async with serving(flat_application()) as url:
        pass
    (result,) = await all_results(url)
    assert result.outcome is Outcome.FAILED
    assert "no answer" in result.detail


async def test_health_is_asked_anew_and_a_lost_database_is_degraded(pool: Pool, url: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/v1/health") as answer:
            body = await answer.json()
            assert (answer.status, body["status"]) == (200, "ok")
            assert set(body["capabilities"]) >= {"embedding", "fts", "ttl", "pin", "propagation"}
        await pool.close()
        async with session.get(f"{url}/v1/health") as answer:
            assert (answer.status, (await answer.json())["status"]) == (503, "degraded")
        body = {"namespaces": ["custom:x"]}
        async with session.post(f"{url}/v1/search", json=body) as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, "unavailable")


async def test_counts_of_a_namespace_follow_its_rows(pool: Pool, store: PostgresStore) -> None:
    async def counted() -> tuple[int, int]:
        row = await pool.fetchrow("SELECT memories, bytes FROM memory_namespaces")
        assert row is not None
        return row[0], row[1]

    await store.put_namespace("custom:x", NamespacePut(kind="custom"))
    memory_id = "5c1c4de0-7f0a-4e6b-9d3c-0d1a4a4a0001"
    await store.commit("custom:x", MemoryWrite(content="four", id=memory_id))
    await store.commit("custom:x", MemoryWrite(content="eleven char", id=memory_id))
    await store.commit("custom:x", MemoryWrite(content="six ch"))
    assert await counted() == (2, 17)
    await store.forget(memory_id, "custom:x")
    assert await counted() == (1, 6)


async def test_a_new_text_without_a_vector_has_no_vector(store: PostgresStore) -> None:
    await store.put_namespace("custom:x", NamespacePut(kind="custom"))
    memory_id = "5c1c4de0-7f0a-4e6b-9d3c-0d1a4a4a0002"
    vector = [1.0, 0.0]
    await store.commit("custom:x", MemoryWrite(content="old", id=memory_id, embedding=vector))
    request = SearchRequest(namespaces=["custom:x"], embedding=vector)
    assert len(await store.search(request)) == 1
    await store.commit("custom:x", MemoryWrite(content="new", id=memory_id))
    assert await store.search(request) == []


async def test_an_id_that_is_no_uuid_is_not_found(store: PostgresStore) -> None:
    with pytest.raises(StoreError) as refused:
        await store.forget("flat-1", "custom:x")
    assert refused.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize(
    "query",
    ["", "e", "to be", "to be or not to be", "%", "日本", "' | & ! ( ) :*", "\\", "a" * 9000],
)
async def test_no_query_fails(store: PostgresStore, query: str) -> None:
    await store.put_namespace("custom:x", NamespacePut(kind="custom"))
    await store.commit("custom:x", MemoryWrite(content="to be or not to be, 日本語"))
    found = await store.search(SearchRequest(namespaces=["custom:x"], query=query))
    assert len(found) == (0 if query in ("%", "\\", "' | & ! ( ) :*") or len(query) > 99 else 1)


async def test_a_namespace_goes_in_steps_and_counters_follow(
    pool: Pool, store: PostgresStore
) -> None:
    async def used() -> tuple[int, int]:
        row = await pool.fetchrow(
            "SELECT coalesce(sum(memories), 0)::int, coalesce(sum(bytes), 0)::int FROM memory_usage"
        )
        assert row is not None
        return row[0], row[1]

    await store.put_namespace("custom:x", NamespacePut(kind="custom"))
    await store.put_namespace("custom:y", NamespacePut(kind="custom"))
    for n in range(1_030):
        await store.commit("custom:x", MemoryWrite(content=f"{n:04}"))
    kept = await store.commit("custom:y", MemoryWrite(content="stays"))
    assert await used() == (1_031, 4_125)
    await store.delete_namespace("custom:x")
    with pytest.raises(StoreError) as missing:
        await store.delete_namespace("custom:x")
    assert missing.value.code is ErrorCode.NOT_FOUND
    assert await used() == (1, 5)
    await store.forget(kept.id, "custom:y")
    assert await used() == (0, 0)


async def test_vectors_of_any_length_make_no_index(pool: Pool, store: PostgresStore) -> None:
    async def indexes() -> int:
        count: int = await pool.fetchval(
            "SELECT count(*) FROM pg_indexes WHERE tablename = 'memory_embeddings'"
        )
        return count

    await store.put_namespace("custom:x", NamespacePut(kind="custom"))
    await store.health()
    before = await indexes()
    for dimensions in (2, 3, 1_536, 4_096):
        vector = [1.0] * dimensions
        await store.commit("custom:x", MemoryWrite(content=f"of {dimensions}", embedding=vector))
        found = await store.search(SearchRequest(namespaces=["custom:x"], embedding=vector))
        assert [memory.content for memory in found] == [f"of {dimensions}"]
    assert await indexes() == before
