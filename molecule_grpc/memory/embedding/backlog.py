"""Reads texts that have no vectors yet, oldest first, whatever stopped before."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID, uuid4

import structlog
from prometheus_client import Gauge

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.memory.embedding.port import Embedder, EmbeddingModel
from molecule_grpc.memory.embedding.store import vectors as store
from molecule_grpc.memory.embedding.store.vectors import NewVector, PendingText, Read
from molecule_grpc.memory.embedding.vectors import Vectors
from molecule_grpc.memory.search.store.literals import vector_text
from molecule_grpc.memory.values import EmbedState

_log = structlog.get_logger(__name__)

# Texts of one round, which are 64 KiB in all or one text: some seconds of work.
_TEXTS: Final = 64
# A step waits so long for further texts: a round for each would take a writer's disk and core.
_GATHER_SECONDS: Final = 0.05
_SECONDS: Final = 60.0
# Another worker may take over 90 s after the last claim of a worker that died.
_LEASE_SECONDS: Final = 90.0
_ROUNDS: Final = 200  # Of one step; the next one goes on.
# A step tries to claim work 3 times, 0.3 s apart: meanwhile a stopping worker may release it.
_TRIES: Final = 3
_PAUSE_SECONDS: Final = 0.3
_LOOKED_AT: Final = 1000
_LOOKS: Final = 50
_COUNTED: Final = 100_000
_FIRST: Final = (UUID(int=0), UUID(int=0))

_PENDING = Gauge(
    "molecule_memory_embed_pending",
    "Texts of memories that wait for their vectors, up to 100,000.",
    multiprocess_mode="mostrecent",
)


class Backlog:
    """Turns stored texts into vectors, in one worker at a time: all workers share one embedder."""

    def __init__(self, pool: Pool, embedder: Embedder, vectors: Vectors) -> None:
        self._pool = pool
        self._embedder = embedder
        self._vectors = vectors
        self._id = uuid4()
        self._looked_through: str | None = None
        self._looked_at = _FIRST
        self._dropped_to = _FIRST[0]

    async def step(self) -> None:
        """Read what waits, until nothing does or the embedder has no time.

        Raises:
            Unavailable: the database does not answer.
        """
        model = self._embedder.model
        if model is None or not await self._vectors.enable(model):
            return
        await asyncio.sleep(_GATHER_SECONDS)
        with database_errors():
            for attempt in range(_TRIES):
                if await self._claim(model):
                    break
                if attempt + 1 < _TRIES:
                    await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return
            try:
                await self._read(model)
            finally:
                await store.release(self._pool, model.id, self._id)

    async def _claim(self, model: EmbeddingModel) -> bool:
        return await store.claim(self._pool, model.id, self._id, _LEASE_SECONDS)

    async def _read(self, model: EmbeddingModel) -> None:
        # First, so that searches say how many texts wait for this model.
        await self._look_through(model)
        for _ in range(_ROUNDS):
            if not await self._round(model) and not await self._look_through(model):
                await self._end_earlier(model)
                break
            if not await self._claim(model):
                return
        _PENDING.set(await store.count_pending(self._pool, _COUNTED))

    async def _round(self, model: EmbeddingModel) -> bool:
        """Read some texts. Whether there may be more, and time for them."""
        schema = self._vectors.schema(model)
        texts = await store.next_pending(self._pool, _TEXTS)
        if not texts or schema is None:
            return False
        found = await self._embedder.passages([text.content for text in texts], seconds=_SECONDS)
        if found is None or self._embedder.model != model:
            return False
        read: list[Read] = []
        new: list[NewVector] = []
        for text, windows in zip(texts, found, strict=True):
            read.append(_outcome(text, EmbedState.READY if windows else EmbedState.FAILED))
            new += [
                NewVector(
                    text.organization_id, text.id, chunk, text.content_sha256, vector_text(vector)
                )
                for chunk, vector in enumerate(windows or ())
            ]
        await store.store(self._pool, schema, model.id, read, new)
        return True

    async def _end_earlier(self, model: EmbeddingModel) -> None:
        """Once no text waits and none lacks a vector of this model, no other one is needed.

        Vectors of a model that no worker has used for ten minutes are deleted, bit by bit.
        """
        if self._looked_through != model.id or await store.count_pending(self._pool, 1):
            return
        models = await store.idle_earlier(self._pool, model.id)
        if not models:
            return
        for _ in range(_LOOKS):
            after = await store.drop_vectors(self._pool, models, self._dropped_to, _LOOKED_AT)
            self._dropped_to = after or _FIRST[0]
            if after is None:
                await store.end_earlier(self._pool, models)
                return

    async def _look_through(self, model: EmbeddingModel) -> bool:
        """Once for each start and model: find texts that have no vectors of this model.

        They were stored without an embedder, or read by another model. Whether there were any.
        """
        found = 0
        for _ in range(_LOOKS):
            if self._looked_through == model.id:
                break
            async with self._pool.acquire() as connection:
                at, marked = await store.mark_unread(
                    connection, model.id, self._looked_at, _LOOKED_AT
                )
            if at is None:
                self._looked_through, self._looked_at = model.id, _FIRST
            else:
                self._looked_at = at
            found += marked
        if found:
            _log.info("texts are to be read by this model", model=model.id, texts=found)
        return found > 0


def _outcome(text: PendingText, state: EmbedState) -> Read:
    return Read(text.organization_id, text.id, text.content_sha256, state)
