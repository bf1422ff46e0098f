"""Whether Postgres keeps vectors here, and where its extension lives."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.memory.embedding.models import LOCAL_MODELS
from molecule_grpc.memory.embedding.port import EmbeddingModel
from molecule_grpc.memory.embedding.store import vectors as store

_log = structlog.get_logger(__name__)

_FIND_SECONDS: Final = 1.0
# Between two looks for a model whose vectors are still being replaced.
_EARLIER_SECONDS: Final = 5.0
# Between two looks for an extension that was not there: an operator may have added it.
_AGAIN_SECONDS: Final = 30.0


class Vectors:
    """Makes the table of vectors and each model's index when they are first needed."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._schemas: dict[str, str] = {}
        self._looked: float | None = None
        self._looking = asyncio.Lock()
        self._found_until = 0.0
        self._earlier: EmbeddingModel | None = None
        self._earlier_until = 0.0

    def schema(self, model: EmbeddingModel) -> str | None:
        """The schema of the extension; None as long as `enable` has not found it for the model."""
        return self._schemas.get(model.id)

    async def find(self, model: EmbeddingModel) -> str | None:
        """The schema of the extension, if vectors of the model have their place. Makes nothing.

        Looks at most once a second. Raises Unavailable: the database does not answer.
        """
        now = asyncio.get_running_loop().time()
        if model.id not in self._schemas and now >= self._found_until:
            self._found_until = now + _FIND_SECONDS
            with database_errors():
                schema = await store.place_of_vectors(self._pool, model.id)
            if schema is not None:
                self._schemas[model.id] = schema
        return self._schemas.get(model.id)

    async def enable(self, model: EmbeddingModel) -> bool:
        """Whether vectors of the model can be stored; makes their table and index if need be.

        An index on the vectors of other models takes as long as reading them. Looks again at most
        every 30 s.

        Raises:
            Unavailable: the database does not answer.
        """
        if model.id in self._schemas:
            return True
        async with self._looking:
            now = asyncio.get_running_loop().time()
            if self._looked is not None and now < self._looked + _AGAIN_SECONDS:
                return model.id in self._schemas
            with database_errors():
                schema = await store.enable(self._pool, model.id, model.dimensions)
            if schema is None:
                if self._looked is None:
                    _log.warning(
                        "Postgres has no extension `vector`, or this role may not create it:"
                        " memories are found by words alone until it is there"
                    )
                self._looked = now
                return False
            self._schemas[model.id] = schema
            return True

    async def earlier(self, model: EmbeddingModel) -> EmbeddingModel | None:
        """The model that texts were read by before, while some still wait for this one.

        None, too, for a model that this machine cannot ask. Looks at most every 5 s.

        Raises:
            Unavailable: the database does not answer.
        """
        now = asyncio.get_running_loop().time()
        if now >= self._earlier_until:
            self._earlier_until = now + _EARLIER_SECONDS
            with database_errors():
                name = await store.earlier_model(self._pool, model.id)
            found = [spec for spec in LOCAL_MODELS.values() if spec.id == name]
            self._earlier = found[0].model if found else None
        return self._earlier
