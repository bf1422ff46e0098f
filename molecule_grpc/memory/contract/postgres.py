"""The built-in store as a server of the contract, over a database of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Fault, Pool, fault
from molecule_grpc.kernel.ids import as_id, new_id
from molecule_grpc.memory.contract.errors import ErrorCode, StoreError, refusal
from molecule_grpc.memory.contract.fields import ContractInvalid
from molecule_grpc.memory.contract.namespaces import (
    ABSENT,
    Health,
    Namespace,
    NamespacePatch,
    NamespacePut,
)
from molecule_grpc.memory.contract.objects import (
    VERSION,
    Capability,
    Memory,
    MemoryWrite,
    Page,
    SearchRequest,
    Written,
)
from molecule_grpc.memory.contract.store import records, spaces
from molecule_grpc.memory.store import places

log = structlog.get_logger(__name__)

_HEALTH_SECONDS: Final = 2.0
_FIRST: Final = UUID(int=0)
_DELETED_AT_ONCE: Final = 500
# The table of vectors comes with an index for one model, which gets no vectors here: lengths are
# chosen by whoever writes, and a scan of the named namespaces needs no index.
_UNUSED_MODEL: Final = ("contract", 1)
_WITHOUT_VECTORS: Final = (
    Capability.FTS,
    Capability.TTL,
    Capability.PIN,
    Capability.PROPAGATION,
    Capability.LIST,
)


class PostgresStore:
    """Keeps memories in the tables of the platform's schema, under one organisation.

    Args:
        organization_id: whose rows all memories are.
    """

    def __init__(self, pool: Pool, organization_id: UUID) -> None:
        self._pool = pool
        self._organization_id = organization_id
        self._home_of_vectors: str | None = None

    async def health(self) -> Health:
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self._pool.fetchval("SELECT 1 FROM memory_namespaces LIMIT 1")
                home = await self._home()
        except Exception as error:
            raise StoreError(ErrorCode.UNAVAILABLE, "the database does not answer") from error
        vectors = () if home is None else (Capability.EMBEDDING,)
        return Health(status="ok", version=VERSION, capabilities=(*vectors, *_WITHOUT_VECTORS))

    async def put_namespace(self, name: str, put: NamespacePut) -> Namespace:
        async with _failures():
            row = await spaces.put_namespace(
                self._pool,
                self._organization_id,
                name,
                put.kind,
                _sent(put.expires_at),
                _sent_object(put.metadata),
            )
        if row is None:
            raise StoreError(ErrorCode.BAD_REQUEST, "the namespace has another kind")
        return _namespace(row)

    async def patch_namespace(self, name: str, patch: NamespacePatch) -> Namespace:
        try:
            patch.check()
        except ContractInvalid as error:
            raise refusal(error) from error
        async with _failures():
            row = await spaces.patch_namespace(
                self._pool,
                self._organization_id,
                name,
                _sent(patch.expires_at),
                _sent_object(patch.metadata),
            )
        if row is None:
            raise _no_namespace()
        return _namespace(row)

    async def delete_namespace(self, name: str) -> None:
        place = (self._pool, self._organization_id, name)
        async with _failures():
            if not await places.expire_namespace(*place):
                raise _no_namespace()
            while await places.empty(*place, limit=_DELETED_AT_ONCE):
                pass
            await places.drop_namespace(*place)

    async def commit(self, namespace: str, write: MemoryWrite) -> Written:
        memory_id = new_id() if write.id is None else UUID(write.id)
        async with _failures():
            home = None if write.embedding is None else await self._home()
            async with self._pool.acquire() as conn, conn.transaction():
                language = await spaces.lock_namespace(conn, self._organization_id, namespace)
                if language is None:
                    raise _no_namespace()
                stored = await records.write(
                    conn,
                    self._organization_id,
                    memory_id,
                    namespace,
                    write.content,
                    write.kind,
                    write.source,
                    write.pin,
                    write.expires_at,
                    write.created_at,
                    _json(write.propagation),
                    "none" if home is None else "ready",
                    language,
                )
                if not stored:
                    raise StoreError(ErrorCode.FORBIDDEN, "the id is of another namespace")
                if home is not None and write.embedding is not None:
                    await records.replace_vector(
                        conn,
                        self._organization_id,
                        memory_id,
                        _model(len(write.embedding)),
                        home,
                        _vector(write.embedding),
                    )
        return Written(id=str(memory_id), namespace=namespace)

    async def search(self, request: SearchRequest) -> list[Memory]:
        try:
            request.check()
        except ContractInvalid as error:
            raise refusal(error) from error
        async with _failures():
            return [_memory(row) for row in await self._found(request)]

    async def page(self, namespace: str, cursor: str) -> Page:
        after = as_id(cursor) if cursor else _FIRST
        if after is None:
            raise StoreError(ErrorCode.BAD_REQUEST, "the cursor is none of this store")
        async with _failures():
            rows = await records.page(self._pool, self._organization_id, namespace, after)
        last = str(rows[-1].id) if len(rows) == records.PAGE else None
        return Page(memories=[_memory(row) for row in rows], next_cursor=last)

    async def _found(self, request: SearchRequest) -> list[records.FoundRow]:
        names, kinds = list(request.namespaces), list(request.kinds)
        place = (self._pool, self._organization_id, names, kinds, request.most)
        if request.embedding is not None:
            home = await self._home()
            if home is not None:
                model, vector = _model(len(request.embedding)), _vector(request.embedding)
                return await records.by_vector(*place, model, home, vector)
        text = request.query.strip()
        if not text:
            return await records.recent(*place)
        found = await records.by_words(*place, text) if len(text) > 1 else []
        # Words that every text has, and single letters, are no words of the index.
        return found or await records.substring(*place, text)

    async def forget(self, memory_id: str, requested_by: str) -> None:
        found = as_id(memory_id)
        if found is None:
            raise _no_memory()
        async with _failures(), self._pool.acquire() as conn, conn.transaction():
            if await records.forget(conn, self._organization_id, found, requested_by):
                return
            if await records.exists(conn, self._organization_id, found):
                raise StoreError(ErrorCode.FORBIDDEN, "the memory is of another namespace")
        raise _no_memory()

    async def _home(self) -> str | None:
        """The schema of the extension for vectors; asked again as long as there is none."""
        if self._home_of_vectors is None:
            self._home_of_vectors = await records.enable_vectors(self._pool, *_UNUSED_MODEL)
        return self._home_of_vectors


@contextlib.asynccontextmanager
async def _failures() -> AsyncIterator[None]:
    """Turn failures of the database into `StoreError`."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if fault(error) is Fault.STATEMENT:
            raise
        log.warning("the database of the store failed", error=type(error).__name__)
        raise StoreError(ErrorCode.UNAVAILABLE, "the database does not answer") from error


def _model(dimensions: int) -> str:
    """Vectors come from whoever writes: those of one length are taken for those of one model."""
    return f"contract/{dimensions}"


def _vector(numbers: Sequence[float]) -> str:
    return "[" + ",".join(map(repr, numbers)) + "]"


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def _sent(value: Any) -> tuple[bool, datetime | None]:
    return (False, None) if value is ABSENT else (True, value)


def _sent_object(value: Any) -> tuple[bool, str | None]:
    return (False, None) if value is ABSENT else (True, _json(value))


def _object(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json.loads(text)


def _namespace(row: spaces.NamespaceRow) -> Namespace:
    return Namespace(
        name=row.name,
        kind=row.kind,
        created_at=row.created_at,
        expires_at=row.expires_at,
        metadata=_object(row.metadata),
    )


def _memory(row: records.FoundRow) -> Memory:
    return Memory(
        id=str(row.id),
        namespace=row.namespace,
        content=row.content,
        kind=row.kind,
        source=row.source,
        created_at=row.created_at,
        expires_at=row.expires_at,
        propagation=_object(row.propagation),
        pin=row.pin,
        score=row.score,
    )


def _no_namespace() -> StoreError:
    return StoreError(ErrorCode.NOT_FOUND, "namespace not found")


def _no_memory() -> StoreError:
    return StoreError(ErrorCode.NOT_FOUND, "memory not found")
