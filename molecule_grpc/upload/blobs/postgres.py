"""Keeps blobs in Postgres, as rows of at most 1 MiB, written while the bytes arrive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.kernel.errors import Unavailable
from molecule_grpc.upload.blobs.port import WRITE_LIMIT, KnownBlobs
from molecule_grpc.upload.blobs.read_ahead import read_ahead
from molecule_grpc.upload.refusals import not_found
from molecule_grpc.upload.store import chunks, loose

CHUNK_BYTES = 1024 * 1024


class Chunk(NamedTuple):
    """Up to 1 MiB of a blob.

    Args:
        start: offset of the first byte in the blob.
    """

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
        return read_ahead(self._read(blob_id, start, stop))

    async def _read(self, blob_id: UUID, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        while start < stop:
            with database_errors():
                piece = await chunks.read(self._pool, blob_id, start, stop)
            if not piece:
                raise not_found()
            yield piece
            start += len(piece)

    async def delete(self, blob_ids: Sequence[UUID]) -> set[UUID]:
        """Delete blobs, all or none."""
        with database_errors():
            await chunks.delete(self._pool, blob_ids)
        return set()

    async def sweep_orphans(self, known: KnownBlobs, older_than: timedelta) -> int:  # noqa: ARG002
        """Always 0: a chunk and the row that notes its blob commit together."""
        return 0


class PostgresBatch:
    """Collects up to 1 MiB of chunks, and stores them while the next ones arrive.

    The rest at the end is stored by the transaction that settles the batch: a request of less than
    1 MiB is written by that transaction alone. At most three chunks are in memory.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._blob_id: UUID | None = None
        self._start = 0
        self._filling = bytearray()
        self._full: list[Chunk] = []
        self._full_bytes = 0
        self._noted: dict[UUID, None] = {}
        self._storing: asyncio.Task[None] | None = None

    async def begin(self, blob_id: UUID) -> None:
        """Begin a blob: the next bytes belong to this one."""
        self._blob_id = blob_id
        self._start = 0

    async def write(self, data: bytes) -> None:
        """Add to the blob."""
        view = memoryview(data)
        while view:
            room = CHUNK_BYTES - len(self._filling)
            self._filling += view[:room]
            view = view[room:]
            if len(self._filling) == CHUNK_BYTES:
                self._cut()
            if self._full_bytes + len(self._filling) >= CHUNK_BYTES:
                await self._store_full()

    async def end(self) -> None:
        """End the blob. Its last chunk is stored with the next ones, or by `settle`."""
        if self._filling:
            self._cut()
        self._blob_id = None

    async def flush(self) -> None:
        """Wait for the chunks that are on their way."""
        if self._storing is not None:
            storing, self._storing = self._storing, None
            await storing

    async def settle(self, conn: Connection) -> None:
        """Store the last chunks, in this transaction, and take the blobs off the list."""
        await self.flush()
        if self._full:
            await chunks.insert(conn, self._full)
        if self._noted and not await loose.release(conn, PostgresBlobs.name, list(self._noted)):
            raise Unavailable("the upload took too long, try again")

    async def close(self) -> None:
        """Cancel the write in flight."""
        if self._storing is not None:
            self._storing.cancel()
            await asyncio.gather(self._storing, return_exceptions=True)

    def _cut(self) -> None:
        assert self._blob_id is not None
        data = bytes(self._filling)
        self._full.append(Chunk(self._blob_id, self._start, data))
        self._full_bytes += len(data)
        self._start += len(data)
        self._filling.clear()

    async def _store_full(self) -> None:
        """Begin to store the full chunks, after the write that is under way: one at a time."""
        await self.flush()
        rows, self._full, self._full_bytes = self._full, [], 0
        if not rows:
            return
        fresh = {row.blob_id: None for row in rows if row.blob_id not in self._noted}
        self._noted |= fresh
        self._storing = asyncio.create_task(self._store(rows, list(fresh)))

    async def _store(self, rows: list[Chunk], fresh: list[UUID]) -> None:
        with database_errors():
            await chunks.insert_loose(self._pool, rows, fresh, WRITE_LIMIT)
