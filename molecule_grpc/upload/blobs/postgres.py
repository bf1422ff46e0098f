"""Blobs as rows of at most 1 MiB, written while they arrive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.kernel.errors import Unavailable
from molecule_grpc.upload.blobs.ahead import one_ahead
from molecule_grpc.upload.blobs.port import MAKING, Owned
from molecule_grpc.upload.refusals import not_found
from molecule_grpc.upload.store import chunks, loose

CHUNK_BYTES = 1024 * 1024


class StoredBlob(NamedTuple):
    """A chunk that is not stored yet."""

    blob_id: UUID
    start: int
    data: bytes


class PostgresBlobs:
    """Keeps bytes in `upload_chunks`."""

    name = "postgres"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @contextlib.asynccontextmanager
    async def batch(self) -> AsyncIterator[PostgresBatch]:
        """Write some blobs."""
        batch = PostgresBatch(self._pool)
        try:
            yield batch
        finally:
            await batch.close()

    def read(self, blob_id: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, a chunk at a time; the next one is under way."""
        return one_ahead(self._read(blob_id, start, stop))

    async def _read(self, blob_id: UUID, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        while start < stop:
            with database_errors():
                piece = await chunks.read(self._pool, blob_id, start, stop)
            if not piece:
                raise not_found()
            yield piece
            start += len(piece)

    async def delete(self, blob_ids: Sequence[UUID]) -> None:
        """Delete blobs."""
        with database_errors():
            await chunks.delete(self._pool, blob_ids)

    async def sweep_orphans(self, owned: Owned, older_than: timedelta) -> int:  # noqa: ARG002
        """Nothing to do: whatever is written here is noted in the same transaction."""
        return 0


class PostgresBatch:
    """Collects up to 1 MiB of chunks, and stores them while the next ones arrive.

    What is left at the end is stored by the transaction that settles the batch: small requests are
    written by that one alone. At most three chunks are in memory.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._blob_id: UUID | None = None
        self._start = 0
        self._filling = bytearray()
        self._full: list[StoredBlob] = []
        self._full_bytes = 0
        self._noted: dict[UUID, None] = {}
        self._flushing: asyncio.Task[None] | None = None

    async def begin(self, blob_id: UUID) -> None:
        """The next bytes are this blob's."""
        self._blob_id = blob_id
        self._start = 0

    async def write(self, data: bytes) -> None:
        """More of the blob."""
        view = memoryview(data)
        while view:
            room = CHUNK_BYTES - len(self._filling)
            self._filling += view[:room]
            view = view[room:]
            if len(self._filling) == CHUNK_BYTES:
                self._cut()
            if self._full_bytes + len(self._filling) >= CHUNK_BYTES:
                await self._flush()

    async def end(self) -> None:
        """The blob is complete."""
        if self._filling:
            self._cut()
        self._blob_id = None

    async def settle(self, conn: Connection) -> None:
        """Store what is left, in this transaction, and take the blobs off the list."""
        await self._flushed()
        if self._full:
            await chunks.insert(conn, self._full)
        if self._noted and not await loose.release(conn, PostgresBlobs.name, list(self._noted)):
            raise Unavailable("the upload took too long, try again")

    async def close(self) -> None:
        """Wait for the last write, whatever became of it."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)

    def _cut(self) -> None:
        assert self._blob_id is not None
        data = bytes(self._filling)
        self._full.append(StoredBlob(self._blob_id, self._start, data))
        self._full_bytes += len(data)
        self._start += len(data)
        self._filling.clear()

    async def _flush(self) -> None:
        """Begin to store the full chunks. There is one write at a time."""
        await self._flushed()
        rows, self._full, self._full_bytes = self._full, [], 0
        if not rows:
            return
        fresh = {row.blob_id: None for row in rows if row.blob_id not in self._noted}
        self._noted |= fresh
        self._flushing = asyncio.create_task(self._store(rows, list(fresh)))

    async def _store(self, rows: list[StoredBlob], fresh: list[UUID]) -> None:
        with database_errors():
            await chunks.insert_loose(self._pool, rows, fresh, MAKING)

    async def _flushed(self) -> None:
        if self._flushing is not None:
            flushing, self._flushing = self._flushing, None
            await flushing
