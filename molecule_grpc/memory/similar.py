"""Stored memories that resemble a new one: hints for its author, never a reason to merge."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.memory.embedding.port import Embedder, Vector
from molecule_grpc.memory.embedding.vectors import Vectors
from molecule_grpc.memory.search.alike import runs, shared_wording
from molecule_grpc.memory.search.store import likeness as store
from molecule_grpc.memory.search.store.likeness import Candidate
from molecule_grpc.memory.values import Similar

# Of 150 edited sections of a documentation, 95 % are found by these; of all sections a tenth has
# another one beside it that passes as well.
_COSINE: Final = 0.85
_WORDING: Final = 0.5
_MOST: Final = 3
# What an author waits for hints, and of this for the vector: a text of 300 characters has one by
# then from an embedder that is idle.
_SECONDS: Final = 0.05
_VECTOR_SECONDS: Final = 0.03
_LETTERS: Final = 1000


class SimilarMemories:
    """Compares a text with the newest 2,000 of its namespace."""

    def __init__(self, pool: Pool, embedder: Embedder, vectors: Vectors) -> None:
        self._pool = pool
        self._embedder = embedder
        self._vectors = vectors

    async def find(
        self, organization_id: UUID, namespace: str, memory_id: UUID, content: str
    ) -> Sequence[Similar]:
        """Up to three memories of the namespace, the most alike first; none after 50 ms.

        Never raises: the memory is stored already.
        """
        try:
            async with asyncio.timeout(_SECONDS):
                vector = await self._vector(content)
                found = await self._candidates(organization_id, namespace, memory_id, vector)
        except (TimeoutError, MoleculeError):
            return ()
        own = runs(content)
        hints = [
            Similar(each.id, each.cosine, shared_wording(own, runs(each.content))) for each in found
        ]
        alike = [
            each
            for each in hints
            if each.shared_wording >= _WORDING
            or (each.cosine is not None and each.cosine >= _COSINE)
        ]
        alike.sort(key=lambda each: (each.cosine or 0.0) + each.shared_wording, reverse=True)
        return alike[:_MOST]

    async def _vector(self, content: str) -> Vector | None:
        """The vector of the text's beginning, if the embedder has time now."""
        model = self._embedder.model
        if model is None or self._vectors.schema(model) is None:
            return None
        found = await self._embedder.passages([content[:_LETTERS]], seconds=_VECTOR_SECONDS)
        return found[0][0] if found and found[0] else None

    async def _candidates(
        self, organization_id: UUID, namespace: str, memory_id: UUID, vector: Vector | None
    ) -> list[Candidate]:
        """By words and by meaning; a row that both find has its cosine."""
        model = self._embedder.model
        schema = None if model is None else self._vectors.schema(model)
        with database_errors():
            async with self._pool.acquire() as connection:
                found = await store.by_words(connection, organization_id, memory_id, namespace)
                if vector is not None and model is not None and schema is not None:
                    found += await store.by_meaning(
                        connection,
                        organization_id,
                        memory_id,
                        namespace,
                        vector,
                        model=model.id,
                        schema=schema,
                    )
        return list({each.id: each for each in found}.values())
