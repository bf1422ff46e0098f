"""Memories beside the stores of LangGraph and mem0: one Postgres, the same vectors, empty tables.

    python -m benchmarks.memory_peers [--python .venv-memory-peers/bin/python]

Each side commits the 2,000 sections of `memory_corpus` one by one, answers its questions and
identifiers with ten hits, is timed with 1 and with 64 callers, and is told one text three times.
Ours is called over gRPC from this process, through a worker; the others are libraries in a process
of their own. Nobody computes a vector: theirs look them up, ours asks a server of OpenAI's protocol
that does, so that storing vectors is part of the work of all three. Ours stores them behind the
commit, theirs within. The floor is asyncpg alone: one INSERT of text and vector, an exact scan.

mem0's `infer` is off, since it asks a language model; its keyword leg is off too, since it fetches
spaCy's model. Their packages conflict with ours (protobuf), hence the environment of their own:

    python -m venv .venv-memory-peers
    .venv-memory-peers/bin/pip install --require-hashes -r requirements/memory-peers.lock
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import grpc
from aiohttp import web
from moleculeai.memory.v1 import memory_pb2
from moleculeai.memory.v1 import memory_service_pb2 as pb
from rich.console import Console
from rich.table import Table

from benchmarks.harness import cpu_seconds, durable_postgres, free_port, make_agents
from benchmarks.memory_corpus import Corpus, Question, corpus, is_held_out
from benchmarks.memory_measures import place, quality
from benchmarks.memory_server import Memory, memory_worker
from benchmarks.memory_vectors import vectors_of

_ROOT = Path(__file__).parents[1]
_SIDES = ("langgraph", "mem0")
_COMMITS = {"1": 200, "64": 1000}
_SEARCHES = {"1": 100, "64": 400}
_KINDS = ("questions", "identifiers")

Call = Callable[[], Awaitable[object]]


def plan_of(built: Corpus) -> dict[str, Any]:
    """What every side is to do, as the others' processes read it."""
    queries = {kind: [(each.text, each.answer) for each in getattr(built, kind)] for kind in _KINDS}
    texts = [text for kind in _KINDS for text, _ in queries[kind]]
    return {
        "memories": built.memories,
        **queries,
        "vectors": vectors_of(built.memories, texts),
        "commits": _COMMITS,
        "searches": _SEARCHES,
    }


async def timed(calls: Sequence[Call], at_once: int) -> dict[str, float]:
    """Calls a second, and this process's CPU milliseconds for each."""
    gate = asyncio.Semaphore(at_once)

    async def one(call: Call) -> None:
        async with gate:
            await call()

    begun, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one(call) for call in calls))
    seconds = time.perf_counter() - begun
    return {
        "rate": len(calls) / seconds,
        "cpu_ms": (time.process_time() - used) / len(calls) * 1000,
    }


@contextlib.asynccontextmanager
async def lookup_server(vectors: dict[str, list[float]]) -> AsyncIterator[str]:
    """A server of OpenAI's embeddings that knows all texts; its base URL."""
    other = next(iter(vectors.values()))

    async def embeddings(request: web.Request) -> web.Response:
        wanted = (await request.json())["input"]
        texts = [wanted] if isinstance(wanted, str) else wanted
        data = [
            {"object": "embedding", "index": n, "embedding": vectors.get(text, other)}
            for n, text in enumerate(texts)
        ]
        return web.json_response({"object": "list", "model": "lookup", "data": data})

    app = web.Application(client_max_size=64 * 1024**2)
    app.router.add_post("/v1/embeddings", embeddings)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        await runner.cleanup()


async def ours(dsn: str, plan: dict[str, Any]) -> dict[str, Any]:
    """What the others' script measures, over gRPC."""
    [agent] = await make_agents(dsn, 1)
    async with (
        lookup_server(plan["vectors"]) as url,
        memory_worker(
            dsn,
            "openai",
            MEMORY_EMBED_BASE_URL=url,
            MEMORY_EMBED_MODEL="lookup",
            MEMORY_EMBED_API_KEY="none",
        ) as worker,
        grpc.aio.insecure_channel(worker.target) as channel,
    ):
        memory = Memory(channel, agent)

        async def commit(text: str) -> memory_pb2.CommitResult:
            request = pb.CommitMemoryRequest(
                workspace_id=str(agent.id), memory=memory_pb2.MemoryDraft(content=text)
            )
            return await memory.stub.CommitMemory(request, metadata=agent.metadata, timeout=60)

        result: dict[str, Any] = {"commits": {}, "searches": {}, "rankings": {}}
        for text in plan["memories"]:
            await commit(text)
        await memory.embedded()
        for kind in _KINDS:
            answers = await memory.search_all([text for text, _ in plan[kind]], limit=10)
            result["rankings"][kind] = [[hit.content for hit in a.memories] for a in answers]
        for at_once, count in plan["searches"].items():
            texts = ([text for text, _ in plan["questions"]] * 10)[:count]
            calls: list[Call] = [lambda text=text: memory.search(text, limit=10) for text in texts]  # type: ignore[misc]
            result["searches"][at_once] = await timed(calls, int(at_once))
        before = cpu_seconds(worker.pid)
        for at_once, count in plan["commits"].items():
            new = [f"new {at_once} {n} " + "word " * 60 for n in range(count)]
            calls = [lambda text=text: commit(text) for text in new]  # type: ignore[misc]
            result["commits"][at_once] = await timed(calls, int(at_once))
        used = cpu_seconds(worker.pid) - before
        result["worker_cpu_ms"] = used / sum(plan["commits"].values()) * 1000
        fact = plan["memories"][1]
        await commit(fact)
        await commit(fact)
        found = await memory.search(fact, limit=10)
        same = [hit for hit in found.memories if hit.content == fact]
        result["rows of a text"] = len(same) + sum(len(hit.similar_ids) for hit in same)
        return result


async def floor(dsn: str, plan: dict[str, Any]) -> dict[str, Any]:
    """asyncpg alone: text and vector in one INSERT, and the ten nearest by an exact scan."""
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=16)
    vectors = {text: json.dumps(vector) for text, vector in plan["vectors"].items()}
    other = next(iter(vectors.values()))
    insert = "INSERT INTO floor (text, vector) VALUES ($1, $2::text::vector)"
    nearest = "SELECT text FROM floor ORDER BY vector <=> $1::text::vector LIMIT 10"
    result: dict[str, Any] = {"commits": {}, "searches": {}}
    try:
        await pool.execute("CREATE EXTENSION IF NOT EXISTS vector")
        await pool.execute(
            "CREATE TABLE floor (id bigserial PRIMARY KEY, text text, vector vector(384))"
        )
        await pool.executemany(insert, [(text, vectors[text]) for text in plan["memories"]])
        for at_once, count in plan["searches"].items():
            texts = ([text for text, _ in plan["questions"]] * 10)[:count]
            calls: list[Call] = [lambda t=t: pool.fetch(nearest, vectors[t]) for t in texts]  # type: ignore[misc]
            result["searches"][at_once] = await timed(calls, int(at_once))
        for at_once, count in plan["commits"].items():
            calls = [
                lambda n=n: pool.execute(insert, f"new {n} " + "word " * 60, other)  # type: ignore[misc]
                for n in range(count)
            ]
            result["commits"][at_once] = await timed(calls, int(at_once))
    finally:
        await pool.close()
    return result


def theirs(python: str, name: str, dsn: str, plan: dict[str, Any]) -> dict[str, Any]:
    """A peer, in its own environment and database."""
    own = _database(dsn, name)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(plan, file)
        file.flush()
        done = subprocess.run(
            [python, _ROOT / "benchmarks/memory_peer_side.py", name, own, file.name],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _database(dsn: str, name: str) -> str:
    async def make() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(f"CREATE DATABASE bench_{name}")
        await connection.close()
        connection = await asyncpg.connect(own)
        await connection.execute("CREATE EXTENSION vector")
        await connection.close()

    own = urlunsplit(urlsplit(dsn)._replace(path=f"/bench_{name}"))
    asyncio.run(make())
    return own


def report(built: Corpus, results: dict[str, dict[str, Any]]) -> None:
    """Print rates, and the quality of the same corpus."""
    console = Console(width=120)
    table = Table(
        "", "commits/s, 1", "64", "client CPU ms", "searches/s, 1", "64", "CPU ms", "rows"
    )
    for name, found in results.items():
        cells = []
        for what in ("commits", "searches"):
            rates = found[what]
            cells += [f"{rates['1']['rate']:.0f}", f"{rates['64']['rate']:.0f}"]
            cells.append(f"{rates['64']['cpu_ms']:.1f}")
        table.add_row(name, *cells, str(found.get("rows of a text", "")))
    console.print(table)
    numbers = {text: n for n, text in enumerate(built.memories)}
    quality_table = Table("held-out half", *(f"{kind}: R@1 R@5 MRR nDCG" for kind in _KINDS))
    for name, found in results.items():
        if "rankings" in found:
            cells = [
                str(_quality(getattr(built, kind), found["rankings"][kind], numbers))
                for kind in _KINDS
            ]
            quality_table.add_row(name, *cells)
    console.print(quality_table)
    print(f"ours: {results['ours']['worker_cpu_ms']:.2f} ms of the worker's CPU for a commit")


def _quality(
    queries: Sequence[Question], rankings: Sequence[Sequence[str]], numbers: dict[str, int]
) -> Any:
    return quality(
        [
            place([numbers.get(text, -1) for text in ranking], query.answer)
            for query, ranking in zip(queries, rankings, strict=True)
            if is_held_out(query.text)
        ]
    )


def main() -> None:
    """Measure everybody in one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=str(_ROOT / ".venv-memory-peers/bin/python"))
    arguments = parser.parse_args()
    if not Path(arguments.python).exists():
        sys.exit(f"{arguments.python} is missing: see the head of this file")
    built = corpus("small")
    plan = plan_of(built)
    with durable_postgres() as dsn:
        results = {"ours": asyncio.run(ours(dsn, plan))}
        for name in _SIDES:
            results[name] = theirs(arguments.python, name, dsn, plan)
        results["asyncpg alone"] = asyncio.run(floor(dsn, plan))
    report(built, results)


if __name__ == "__main__":
    main()
