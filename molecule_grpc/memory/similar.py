"""Finds stored memories similar to a new memory: hints for the author; nothing is merged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.memory.embedding.port import Embedder
from molecule_grpc.memory.embedding.vectors import Vectors
from molecule_grpc.memory.search.alike import runs, shared_wording
from molecule_grpc.memory.search.store.likeness import Candidate, alike, alike_text
from molecule_grpc.memory.values import Similar

# Of 150 edited sections of a documentation, 95 % are found by these limits; for 10 % of all
# sections, another section passes as well.
_COSINE: Final = 0.85
_WORDING: Final = 0.5
# Cosines of some models begin at 0.7: without any shared wording they say nothing.
_SOME_WORDING: Final = 0.2
_MOST: Final = 3
# What an author waits for hints; and searches for hints at once: with more, commits have none.
_SECONDS: Final = 0.01
_AT_ONCE: Final = 4


class SimilarMemories:
    """Compares a text with the newest 500 of its namespace."""

    def __init__(self, pool: Pool, embedder: Embedder, vectors: Vectors) -> None:
        self._pool = pool
        self._embedder = embedder
        self._vectors = vectors
        self._under_way = 0

    async def find(
        self, organization_id: UUID, namespace: str, memory_id: UUID, content: str
    ) -> Sequence[Similar]:
        """Up to three memories that resemble a stored one, the most alike first; none after 10 ms.

        None, too, while 4 others look. Never raises.
        """
        model = self._embedder.model

        async def stored(connection: Connection) -> list[Candidate]:
            return await alike(
                connection,
                organization_id,
                memory_id,
                namespace,
                model="" if model is None else model.id,
                schema=None if model is None else self._vectors.schema(model),
            )

        return await self._found(stored, content)

    async def find_like(
        self, author_id: UUID, namespace: str, memory_id: UUID, content: str
    ) -> Sequence[Similar]:
        """The same for a text on its way, which has no vector yet.

        Whether the author may read the namespace is not asked: show the answer only once the text
        is stored there.
        """

        async def on_its_way(connection: Connection) -> list[Candidate]:
            return await alike_text(connection, author_id, memory_id, namespace, content)

        return await self._found(on_its_way, content)

    async def _found(
        self, look: Callable[[Connection], Awaitable[list[Candidate]]], content: str
    ) -> Sequence[Similar]:
        if self._under_way >= _AT_ONCE:
            return ()
        self._under_way += 1
        try:
            async with asyncio.timeout(_SECONDS):
                with database_errors():
                    async with self._pool.acquire() as connection:
                        found = await look(connection)
        except (TimeoutError, MoleculeError):
            return ()
        finally:
            self._under_way -= 1
        own = runs(content)
        hints = [
            Similar(each.id, each.cosine, shared_wording(own, runs(each.content))) for each in found
        ]
        near = [
            each
            for each in hints
            if each.shared_wording >= _WORDING
            or (each.shared_wording >= _SOME_WORDING and (each.cosine or 0.0) >= _COSINE)
        ]
        near.sort(key=lambda each: (each.cosine or 0.0) + each.shared_wording, reverse=True)
        return near[:_MOST]
