"""Search as rows grow: filtered recall and time of the index, and of BM25 beside Postgres' ranking.

    python -m benchmarks.memory_scale [--rows 100000] [--queries 100]

Rows carry the sections of `memory_corpus` with their vectors, each a little off at random. One
namespace has half a percent of them, another the rest; all have one author. In the small one the
search with the index forced is compared with the exact scan that it would make otherwise: recall is
the share of the exact scan's ten that the index finds. Words are timed in 2,000 and 20,000 rows,
beside any-term `ts_rank` with length normalisation over the same rows. The search runs in this
process, without gRPC.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness import durable_postgres, make_agents, percentile
from benchmarks.memory_corpus import corpus
from benchmarks.memory_peers import plan_of
from molecule_grpc.db.pool import Pool, connect_pool
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.memory.embedding.port import EmbeddingModel, Vector
from molecule_grpc.memory.embedding.vectors import Vectors
from molecule_grpc.memory.namespaces import Namespaces
from molecule_grpc.memory.search.searching import Search
from molecule_grpc.memory.search_values import Query
from molecule_grpc.memory.values import Access

_MODEL = EmbeddingModel("bench/lookup/384", 384, 0.4)
_SELECTIVITY = 0.005
_NOISE = 0.5
_BATCH = 1000
_ALL = 1_000_000_000

_TS_RANK = """
    WITH query AS (
        SELECT string_agg(quote_literal(lexeme), ' | ')::tsquery AS any_of
        FROM unnest(to_tsvector('english', $2))
    )
    SELECT m.id FROM memories m, query
    WHERE m.namespace = $1 AND m.words @@ any_of
    ORDER BY ts_rank(m.words, any_of, 1) DESC LIMIT 20
"""


class Lookup:
    """An embedder that knows every question."""

    active = True
    model = _MODEL

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self._vectors = vectors

    async def query(self, text: str) -> Vector | None:
        return self._vectors[text]

    async def passages(self, texts: Sequence[str], *, seconds: float) -> None:
        raise NotImplementedError


async def fill(pool: Pool, author: UUID, plan: dict[str, Any], sizes: dict[str, int]) -> None:
    """Rows with words and vectors, by namespace."""
    organization = await pool.fetchval(
        "SELECT organization_id FROM workspaces WHERE id = $1", author
    )
    texts = plan["memories"]
    base = np.array([plan["vectors"][text] for text in texts], dtype=np.float32)
    draw = np.random.default_rng(5)
    await pool.fetchval("SELECT memory_enable_vectors($1, 384)", _MODEL.id)
    # Without a worker that reads by the model no search compares meanings.
    await pool.execute("INSERT INTO memory_readers VALUES ($1, $2, now())", _MODEL.id, new_id())
    index = await pool.fetchval(
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'memory_embeddings'"
        " AND indexdef LIKE '%hnsw%'"
    )
    name = index.split()[2]
    await pool.execute(f"DROP INDEX {name}")
    for namespace, count in sizes.items():
        await pool.execute(
            "INSERT INTO memory_namespaces (organization_id, name, kind) VALUES ($1, $2, 'custom')",
            organization,
            namespace,
        )
        for begin in range(0, count, _BATCH):
            chosen = draw.integers(0, len(texts), min(_BATCH, count - begin))
            noise = draw.standard_normal((len(chosen), 384)).astype(np.float32) / np.sqrt(384)
            vectors = base[chosen] + _NOISE * noise
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            ids = [new_id() for _ in chosen]
            await _insert(
                pool, organization, namespace, author, ids, [texts[n] for n in chosen], vectors
            )
    begun = time.monotonic()
    await pool.execute("SET maintenance_work_mem = '1GB'")
    await pool.execute(index)
    await pool.execute("VACUUM ANALYZE memories")
    await pool.execute("ANALYZE memory_embeddings")
    print(f"index made in {time.monotonic() - begun:.0f} s", flush=True)


async def _insert(
    pool: Pool,
    organization: UUID,
    namespace: str,
    author: UUID,
    ids: list[UUID],
    texts: list[str],
    vectors: Any,
) -> None:
    await pool.execute(
        """
        INSERT INTO memories (organization_id, id, namespace, content, content_sha256, kind, source,
                              author_id, valid_from, change, embed_state, words, word_count)
        SELECT $1, id, $2, text, sha256(convert_to(text || id, 'UTF8')), 'fact', 'agent', $3, now(),
               'committed', 'ready', words, memory_word_count(words)
        FROM unnest($4::uuid[], $5::text[]) t (id, text),
             LATERAL (SELECT memory_words('english', text) AS words OFFSET 0) w
        """,
        organization,
        namespace,
        author,
        ids,
        texts,
    )
    await pool.executemany(
        """
        INSERT INTO memory_embeddings
            (organization_id, memory_id, model, chunk, content_sha256, embedding)
        SELECT $1, $2, $3, 0, m.content_sha256, $4::real[]::vector FROM memories m WHERE m.id = $2
        """,
        [
            (organization, id_, _MODEL.id, row.tolist())
            for id_, row in zip(ids, vectors, strict=True)
        ],
    )


async def timed(ask: Callable[[str], Awaitable[Any]], texts: Sequence[str]) -> list[float]:
    """Milliseconds of each question, one after the other, after a warm-up."""
    for text in texts[:5]:
        await ask(text)
    found = []
    for text in texts:
        begun = time.perf_counter()
        await ask(text)
        found.append((time.perf_counter() - begun) * 1000)
    return found


async def measure(dsn: str, rows: int, queries: int) -> None:
    """Fill, ask, print."""
    plan = plan_of(corpus("small"))
    [agent] = await make_agents(dsn, 1)
    few = round(rows * _SELECTIVITY)
    sizes = {"custom:few": few, "custom:2000": 2_000, "custom:20000": min(20_000, rows)}
    sizes["custom:rest"] = max(0, rows - sum(sizes.values()))
    pool = await connect_pool(dsn, min_size=1, max_size=1)
    try:
        await fill(pool, agent.id, plan, sizes)
        await pool.executemany(
            """INSERT INTO memory_grants
                   (organization_id, namespace, workspace_id, can_write, granted_by)
               SELECT organization_id, $2, id, false, 'bench' FROM workspaces WHERE id = $1""",
            [(agent.id, name) for name in sizes],
        )
        access = await Namespaces(pool).access(agent.id)
        texts = [text for text, _ in plan["questions"]][:queries]
        await _recall(pool, access, plan, texts, rows)
        await _words(pool, access, plan, texts)
    finally:
        await pool.close()


def _search(pool: Pool, plan: dict[str, Any], exact_rows: int) -> Search:
    tokens, lookup = PageTokens(bytes(32)), Lookup(plan["vectors"])
    return Search(pool, tokens, lookup, Vectors(pool), exact_rows=exact_rows)  # type: ignore[arg-type]


async def _recall(
    pool: Pool, access: Access, plan: dict[str, Any], texts: Sequence[str], rows: int
) -> None:
    table = Table("", "recall@10 of exact", "p50 ms", "p99 ms", title=f"meaning, {rows} rows")
    for names in (("custom:few",), ()):
        query = Query(namespaces=names, mode="semantic", limit=10)
        found: dict[str, list[set[UUID]]] = {}
        for name, search in (
            ("exact", _search(pool, plan, _ALL)),
            ("index", _search(pool, plan, 0)),
        ):

            async def ask(text: str, search: Search = search, query: Query = query) -> Any:
                answer = await search.search(access, replace(query, text=text))
                assert answer.mode_used == "semantic", answer.degraded
                return answer

            times = await timed(ask, texts)
            found[name] = [
                {hit.row.id for hit in (await ask(text)).hits}
                | {each for hit in (await ask(text)).hits for each in hit.similar_ids}
                for text in texts
            ]
            shares = [
                len(exact & mine) / max(1, len(exact))
                for exact, mine in zip(found["exact"], found[name], strict=True)
            ]
            where = "0.5 % of the rows" if names else "all rows"
            table.add_row(
                f"{where}, {name}",
                f"{statistics.fmean(shares):.3f}",
                f"{percentile(times, 0.5):.1f}",
                f"{percentile(times, 0.99):.1f}",
            )
    Console(width=100).print(table)


async def _words(pool: Pool, access: Access, plan: dict[str, Any], texts: Sequence[str]) -> None:
    table = Table("rows", "BM25 p50 ms", "ts_rank p50 ms", "ratio", title="words")
    search = _search(pool, plan, _ALL)
    for name in ("custom:2000", "custom:20000"):
        query = Query(namespaces=(name,), mode="lexical", limit=20)

        async def ours(text: str, query: Query = query) -> Any:
            return await search.search(access, replace(query, text=text))

        async def plain(text: str, name: str = name) -> Any:
            return await pool.fetch(_TS_RANK, name, text)

        mine = percentile(await timed(ours, texts), 0.5)
        theirs = percentile(await timed(plain, texts), 0.5)
        table.add_row(
            name.partition(":")[2], f"{mine:.1f}", f"{theirs:.1f}", f"{mine / theirs:.1f}"
        )
    Console(width=100).print(table)


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    arguments = parser.parse_args()
    with durable_postgres() as dsn:
        asyncio.run(measure(dsn, arguments.rows, arguments.queries))


if __name__ == "__main__":
    main()
