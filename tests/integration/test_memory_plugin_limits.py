"""What a plugin knows and does not know: provenance, ids, vectors, exports, and being away."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest
from aiohttp import web

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import (
    MoleculeError,
    NotFound,
    Unavailable,
    Unsupported,
)
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.memory.contract.postgres import PostgresStore
from molecule_grpc.memory.embedding.port import EmbeddingModel, Vector
from molecule_grpc.memory.memories import Memories
from molecule_grpc.memory.namespaces import Namespaces
from molecule_grpc.memory.plugin.client import PluginClient
from molecule_grpc.memory.plugin.exports import PluginExports
from molecule_grpc.memory.plugin.memories import PluginMemories
from molecule_grpc.memory.plugin.rights import PluginRights
from molecule_grpc.memory.plugin.server import contract_application
from molecule_grpc.memory.plugin.wire_names import WireNames
from molecule_grpc.memory.rates import CommitRate
from molecule_grpc.memory.search_values import Query
from molecule_grpc.memory.values import Draft
from tests.flat_plugin import flat_application
from tests.integration.plugins import Bench, Family, bench_of, family_in
from tests.integration.workspaces import ORGANIZATION
from tests.plugin_servers import serving


@pytest.fixture
async def family(pool: Pool) -> Family:
    return await family_in(pool)


@pytest.fixture(params=["flat", "postgres"])
async def bench(request: pytest.FixtureRequest, pool: Pool) -> AsyncIterator[Bench]:
    flat = request.param == "flat"
    app = flat_application() if flat else contract_application(PostgresStore(pool, ORGANIZATION))
    async with bench_of(pool, app) as opened:
        yield opened


async def test_ids_on_the_wire_are_a_permutation() -> None:
    names = WireNames(b"k" * 32, new_id())
    others = WireNames(b"k" * 32, new_id())
    for _ in range(100):
        known = new_id()
        assert names.known(names.id(known)) == known
        assert len({str(known), names.id(known), others.id(known)}) == 3
    assert names.id(names.known("flat-1")) == "flat-1"


async def test_a_plugin_away_is_said_so_and_nothing_crashes(pool: Pool, family: Family) -> None:
    async with serving(flat_application()) as url:
        pass
    async with PluginClient(url, 0.5) as client:
        bench = Bench(pool, client)
        said = []
        for _ in range(4):
            for call in (
                bench.memories.commit(family.one, Draft(content="x")),
                bench.memories.search(family.one, Query()),
                bench.memories.forget(family.one, new_id()),
            ):
                with pytest.raises(Unavailable) as away:
                    await call
                assert away.value.reason == "MEMORY_PLUGIN_UNAVAILABLE"
                assert "MEMORY_PLUGIN_URL" in away.value.message
                said.append(away.value.message)
        assert "circuit breaker open" in said[-1]
        [outcome] = await bench.memories.commit_batch(family.one, [Draft(content="x")])
        assert isinstance(outcome, MoleculeError)


async def test_what_a_plugin_cannot_do_is_refused_by_name(bench: Bench, family: Family) -> None:
    one, some = family.one, new_id()
    for call in (
        bench.memories.get(one, some),
        bench.memories.history(one, some),
        bench.memories.hygiene(one),
        bench.memories.supersede(one, some, Draft(content="x")),
        bench.memories.consolidate(one, [some, some], Draft(content="x"), dry_run=True),
        bench.memories.undo(one, some),
        bench.memories.explain(one, some, Query()),
        bench.memories.search(one, Query(as_of=datetime.now(UTC))),
        bench.scoped.update(one, some, content="x", label=None),
    ):
        with pytest.raises(Unsupported) as refused:
            await call
        assert refused.value.reason == "MEMORY_PLUGIN_UNSUPPORTED"


async def test_a_search_says_how_it_fell_short(pool: Pool, family: Family) -> None:
    async with bench_of(pool, flat_application()) as bench:
        await bench.memories.commit(family.one, Draft(content="x"))
        found = await bench.memories.search(family.one, Query(text="x"))
        assert found.mode_used == "recent"
        assert any("does not search by words" in each for each in found.degraded)
    async with bench_of(pool, contract_application(PostgresStore(pool, ORGANIZATION))) as bench:
        found = await bench.memories.search(family.one, Query(text="x"))
        assert found.mode_used == "lexical"
        assert not any("does not search by words" in each for each in found.degraded)


@pytest.mark.parametrize("bad", ["a]: x [MEMORY", "a b", "x" * 300, ".."])
async def test_an_id_that_could_forge_a_header_shows_no_memory(
    pool: Pool, family: Family, bad: str
) -> None:
    async def search(request: web.Request) -> web.Response:
        names = (await request.json())["namespaces"]
        row = {"namespace": names[0], "content": "x", "kind": "fact", "source": "agent"}
        return web.json_response({"memories": [row | {"id": bad}, row | {"id": "fine"}]})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "version": "1", "capabilities": []})

    app = web.Application()
    app.router.add_post("/v1/search", search)
    app.router.add_get("/v1/health", health)
    async with bench_of(pool, app) as bench:
        found = await bench.memories.search(family.one, Query())
    assert [str(hit.row.id) for hit in found.hits] == ["fine"]


async def test_an_export_lists_every_namespace_to_its_end(pool: Pool, family: Family) -> None:
    asked: list[str] = []
    store = PostgresStore(pool, ORGANIZATION)
    async with bench_of(pool, contract_application(store), asked) as bench:
        drafts = [Draft(content=f"row {n}") for n in range(230)]
        await bench.memories.commit_batch(family.one, drafts)
        org = f"org:{family.root}"
        await bench.memories.commit(family.root, Draft(content="for all", namespace=org))
        asked.clear()
        exports = PluginExports(pool, bench.client, bytes(32))
        pieces = [piece async for piece in exports.pieces(ORGANIZATION)]
    rows = json.loads(b"".join(pieces))
    assert len(rows) == 231
    assert {row["memory_namespace"] for row in rows} == {f"workspace:{family.one}", org}
    [shared] = [row for row in rows if row["scope"] == "GLOBAL"]
    assert shared["workspace_name"] == str(family.root)
    # Three private namespaces, the team and the organisation of the root; the child's has 3 pages.
    assert len(asked) == 5 + 2


async def test_an_export_that_cannot_be_whole_is_an_error(pool: Pool, family: Family) -> None:
    async with bench_of(pool, flat_application()) as bench:
        with pytest.raises(Unsupported):
            _ = [piece async for piece in PluginExports(pool, bench.client, b"").pieces(None)]
    store = PostgresStore(pool, ORGANIZATION)
    async with bench_of(pool, contract_application(store)) as bench:
        await bench.memories.commit(family.one, Draft(content="x"))
    with pytest.raises(Unavailable):
        _ = [piece async for piece in PluginExports(pool, bench.client, b"").pieces(None)]


class _Embedder:
    """Two words have a meaning, and nothing else."""

    active = True
    model = EmbeddingModel("test/2", 2, 0.4)

    async def query(self, text: str, earlier: EmbeddingModel | None = None) -> Vector | None:
        return self._vector(text)

    async def passages(
        self, texts: Sequence[str], *, seconds: float
    ) -> list[list[Vector] | None] | None:
        return [[self._vector(text)] for text in texts]

    def _vector(self, text: str) -> Vector:
        return [1.0, 0.0] if "harbour" in text or "port" in text else [0.0, 1.0]


async def test_a_plugin_that_ranks_by_vectors_gets_them(pool: Pool, family: Family) -> None:
    async with bench_of(pool, contract_application(PostgresStore(pool, ORGANIZATION))) as bench:
        plugin = PluginMemories(
            pool,
            bench.client,
            key=bytes(32),
            audit=bench._audit,
            rate=CommitRate(0),
            embedder=_Embedder(),
        )
        memories = Memories(Namespaces(pool), plugin, plugin, plugin, plugin)
        await memories.commit(family.one, Draft(content="bread is in the kitchen"))
        await memories.commit(family.one, Draft(content="the harbour closes at nine"))
        found = await memories.search(family.one, Query(text="port"))
        assert found.mode_used == "semantic"
        assert found.hits[0].row.content == "the harbour closes at nine"
        found = await memories.search(family.one, Query(text="kitchen", mode="lexical"))
        assert [hit.row.content for hit in found.hits] == ["bread is in the kitchen"]


async def test_an_operator_deletes_no_namespace_of_another_organisation(
    pool: Pool, family: Family
) -> None:
    organization = await pool.fetchval(
        "SELECT organization_id FROM workspaces WHERE id = $1", family.stranger
    )
    async with bench_of(pool, contract_application(PostgresStore(pool, ORGANIZATION))) as bench:
        await bench.memories.commit(family.one, Draft(content="stays"))
        rights = PluginRights(pool, bench.client, bytes(32))
        own = f"workspace:{family.one}"
        for name in (own, f"workspace:{new_id()}", "custom:none", "workspace:x"):
            with pytest.raises(NotFound) as missing:
                await rights.delete_namespace(organization, name)
            assert missing.value.message == "namespace not found"
        assert await bench.texts(family.one) == ["stays"]
        await rights.delete_namespace(ORGANIZATION, own)
        assert await bench.texts(family.one) == []
        for call in (rights.move(None, own, "custom:x"), rights.stats(None)):
            with pytest.raises(Unsupported):
                await call


async def test_a_quarantined_author_is_in_no_export(pool: Pool, family: Family) -> None:
    team = f"team:{family.root}"
    async with bench_of(pool, contract_application(PostgresStore(pool, ORGANIZATION))) as bench:
        await bench.memories.commit(family.one, Draft(content="of one", namespace=team))
        await bench.memories.commit(family.other, Draft(content="of other", namespace=team))
        await pool.execute(
            "INSERT INTO memory_quarantine (organization_id, author_id, created_by)"
            " VALUES ($1, $2, 'test')",
            ORGANIZATION,
            family.one,
        )
        exports = PluginExports(pool, bench.client, bytes(32))
        pieces = [piece async for piece in exports.pieces(ORGANIZATION)]
    assert [row["content"] for row in json.loads(b"".join(pieces))] == ["of other"]


async def test_an_old_memory_of_ones_own_is_deleted_and_recorded(
    pool: Pool, family: Family
) -> None:
    team = f"team:{family.root}"
    async with bench_of(pool, contract_application(PostgresStore(pool, ORGANIZATION))) as bench:
        old = await bench.memories.commit(family.one, Draft(content="old", namespace=team))
        others = [Draft(content=f"row {n}", namespace=team) for n in range(120)]
        await bench.memories.commit_batch(family.other, others)
        with pytest.raises(NotFound):
            await bench.scoped.forget(family.other, old.id)
        await bench.scoped.forget(family.one, old.id)
        [entry] = bench.audited
        digest = hashlib.sha256(b"old").hexdigest()
        assert json.loads(entry.body)["content_sha256"] == digest
