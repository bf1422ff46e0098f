"""Search of memories on a real database, with a small model that every machine has."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.memory.embedding.backlog import Backlog
from molecule_grpc.memory.embedding.port import EmbeddingModel, Vector
from molecule_grpc.memory.opening_search import SearchParts, open_search
from molecule_grpc.memory.search_values import Explained, Found, Query
from tests.integration.memories import Bench, Reader, bench_of

# Words of one line mean the same.
MEANINGS = (
    ("restart", "reboot", "bounce", "relaunch"),
    ("database", "postgres", "store"),
    ("cat", "kitten", "feline"),
    ("deploy", "release", "ship"),
    ("invoice", "bill", "payment"),
    ("monday", "weekday"),
    ("python", "snake"),
)
_DIMENSIONS = len(MEANINGS) + 1


class Thesaurus:
    """A model that knows a few words; a text without any points in a direction of its own."""

    active = True

    def __init__(self, name: str = "test/thesaurus/1/8", weight: float = 0.4) -> None:
        self.model: EmbeddingModel | None = EmbeddingModel(name, _DIMENSIONS, weight, (0.75, 0.5))
        self.down = False
        self.refused: set[str] = set()
        self.asked: list[str] = []

    async def query(self, text: str, earlier: EmbeddingModel | None = None) -> Vector | None:
        self.asked.append(text if earlier is None else f"{earlier.id}: {text}")
        return None if self.down else _vector(text)

    async def passages(
        self, texts: Sequence[str], *, seconds: float
    ) -> list[list[Vector] | None] | None:
        if self.down:
            return None
        return [None if text in self.refused else [_vector(text)] for text in texts]


def _vector(text: str) -> list[float]:
    words = text.lower().replace(".", " ").replace("?", " ").split()
    counts = [float(sum(word in line for word in words)) for line in MEANINGS]
    counts.append(0.2)
    length = math.sqrt(sum(count * count for count in counts))
    return [count / length for count in counts]


class SearchBench:
    """Writing, reading of texts by the model, and searching."""

    def __init__(self, bench: Bench, parts: SearchParts, model: Thesaurus) -> None:
        self.bench = bench
        self.parts = parts
        self.model = model
        self.backlog = Backlog(bench.pool, model, parts.vectors)
        self.commit = bench.commit

    async def remember(self, author: UUID, *contents: str, **fields: Any) -> list[UUID]:
        """Commit texts, and let the model read them."""
        ids = [(await self.bench.commit(author, text, **fields)).id for text in contents]
        await self.backlog.step()
        return ids

    async def search(self, reader: UUID, text: str = "", **fields: Any) -> Found:
        access = await self.bench.namespaces.access(reader)
        return await self.parts.search.search(access, Query(text=text, **fields))

    async def ids(self, reader: UUID, text: str = "", **fields: Any) -> list[UUID]:
        return [hit.row.id for hit in (await self.search(reader, text, **fields)).hits]

    async def explain(self, reader: UUID, memory_id: UUID, text: str, **fields: Any) -> Explained:
        access = await self.bench.namespaces.access(reader)
        return await self.parts.search.explain(access, memory_id, Query(text=text, **fields))


@contextlib.asynccontextmanager
async def search_bench(
    pool: Pool, dsn: str, *, model: Thesaurus | None = None, **settings: Any
) -> AsyncIterator[SearchBench]:
    """A store of memories with everything that finds them."""
    model = model or Thesaurus()
    async with (
        bench_of(pool, dsn, reader=Reader(active=True), **settings) as bench,
        open_search(bench.core, recalled=bench.upkeep.recalled, embedder=model) as parts,
    ):
        yield SearchBench(bench, parts, model)
