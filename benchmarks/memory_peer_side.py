"""Measures one memory library, in the environment of requirements/memory-peers.lock.

    python benchmarks/memory_peer_side.py langgraph|mem0 DSN PLAN

Knows nothing of this repository. PLAN is a JSON file: `memories`, `questions` and `identifiers`
(pairs of text and the number of the answer), `vectors` by text, `commits` and `searches` to be
timed by how many at once. Prints JSON. The embedder looks vectors up, so that it costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

_TEN = 10


class Lookup:
    """An embedder that knows the texts. Any other text has the first vector."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.vectors = vectors
        self.other = next(iter(vectors.values()))
        self.config = type("Config", (), {"embedding_dims": len(self.other)})()

    def embed(self, text, *_args, **_more):
        return self.vectors.get(text, self.other)

    def embed_batch(self, texts, *_args, **_more):
        return [self.embed(text) for text in texts]

    async def for_all(self, texts):
        return [self.embed(text) for text in texts]


class LangGraph:
    """AsyncPostgresStore with a pool of 16 connections."""

    def __init__(self, dsn: str, lookup: Lookup) -> None:
        from langgraph.store.postgres import AsyncPostgresStore  # noqa: PLC0415  (one side only)

        index = {"dims": len(lookup.other), "embed": lookup.for_all, "fields": ["text"]}
        self._store = AsyncPostgresStore.from_conn_string(
            dsn, pool_config={"min_size": 1, "max_size": 16}, index=index
        )

    async def open(self) -> None:
        self.store = await self._store.__aenter__()
        await self.store.setup()

    async def commit(self, key: str, text: str) -> None:
        await self.store.aput(("bench", "agent"), key, {"text": text})

    async def search(self, text: str) -> list[str]:
        found = await self.store.asearch(("bench", "agent"), query=text, limit=_TEN)
        return [each.value["text"] for each in found]

    async def close(self) -> None:
        await self._store.__aexit__(None, None, None)


class Mem0:
    """Memory with pgvector and infer=False, so that no language model is asked."""

    def __init__(self, dsn: str, lookup: Lookup) -> None:
        os.environ.update(MEM0_TELEMETRY="False", OPENAI_API_KEY="none")
        from mem0 import Memory  # noqa: PLC0415  (reads the variables above)

        folder = tempfile.mkdtemp()
        os.environ["MEM0_DIR"] = folder
        store = {
            "connection_string": dsn,
            "collection_name": "bench",
            "embedding_model_dims": len(lookup.other),
            "hnsw": True,
            "minconn": 1,
            "maxconn": 16,
        }
        self.memory = Memory.from_config(
            {
                "vector_store": {"provider": "pgvector", "config": store},
                "history_db_path": f"{folder}/history.db",
            }
        )
        self.memory.embedding_model = lookup

    async def open(self) -> None:
        pass

    async def commit(self, _key: str, text: str) -> None:
        await asyncio.to_thread(self.memory.add, text, user_id="agent", infer=False)

    async def search(self, text: str) -> list[str]:
        found = await asyncio.to_thread(
            self.memory.search, text, filters={"user_id": "agent"}, top_k=_TEN, threshold=0.0
        )
        return [each["memory"] for each in found["results"]]

    async def close(self) -> None:
        pass


async def timed(calls, at_once: int) -> dict[str, float]:
    """Calls a second, and this process's CPU milliseconds for each."""
    gate = asyncio.Semaphore(at_once)

    async def one(call) -> None:
        async with gate:
            await call()

    begun, used = time.perf_counter(), _cpu()
    await asyncio.gather(*(one(call) for call in calls))
    seconds = time.perf_counter() - begun
    return {
        "rate": len(calls) / seconds,
        "cpu_ms": (_cpu() - used) / len(calls) * 1000,
    }


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(side, plan) -> dict:
    await side.open()
    result: dict = {"commits": {}, "searches": {}, "rankings": {}}
    try:
        for n, text in enumerate(plan["memories"]):
            await side.commit(str(n), text)
        for kind in ("questions", "identifiers"):
            result["rankings"][kind] = [await side.search(text) for text, _ in plan[kind]]
        for at_once, count in plan["searches"].items():
            texts = [text for text, _ in plan["questions"]] * 10
            calls = [lambda text=text: side.search(text) for text in texts[:count]]
            result["searches"][at_once] = await timed(calls, int(at_once))
        for at_once, count in plan["commits"].items():
            calls = [
                lambda n=n, at=at_once: side.commit(
                    f"new {at} {n}", f"new {at} {n} " + "word " * 60
                )
                for n in range(count)
            ]
            result["commits"][at_once] = await timed(calls, int(at_once))
        fact = plan["memories"][1]
        await side.commit("first", fact)
        await side.commit("second", fact)
        result["rows of a text"] = (await side.search(fact)).count(fact)
    finally:
        await side.close()
    return result


def main() -> None:
    name, dsn, path = sys.argv[1:]
    plan = json.loads(Path(path).read_text())
    side = {"langgraph": LangGraph, "mem0": Mem0}[name](dsn, Lookup(plan["vectors"]))
    print(json.dumps(asyncio.run(measure(side, plan))))


if __name__ == "__main__":
    main()
