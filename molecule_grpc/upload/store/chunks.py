"""The SQL of file contents that Postgres keeps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.upload.store.loose import LAZY

_INSERT = """
    INSERT INTO upload_chunks (blob_id, start_offset, data)
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::bytea[])
"""

_INSERT_LOOSE = f"""
    WITH {LAZY},
    noted AS (
        INSERT INTO loose_blobs (blob_id, storage, due_at)
        SELECT id, 'postgres', now() + $5::interval FROM unnest($4::uuid[]) id
    )
    INSERT INTO upload_chunks (blob_id, start_offset, data)
    SELECT c.* FROM lazy CROSS JOIN unnest($1::uuid[], $2::int[], $3::bytea[]) c
"""

# The chunk that holds the first byte, from that byte on.
_READ = """
    SELECT substring(data FROM $2 - start_offset + 1 FOR $3 - $2)
    FROM upload_chunks
    WHERE blob_id = $1 AND start_offset = (
        SELECT max(start_offset) FROM upload_chunks WHERE blob_id = $1 AND start_offset <= $2
    )
"""


async def insert(conn: Connection, rows: Sequence[tuple[UUID, int, bytes]]) -> None:
    """Store chunks: which blob, where in it, and the bytes."""
    await conn.execute(_INSERT, *map(list, zip(*rows, strict=True)))


async def insert_loose(
    pool: Pool, rows: Sequence[tuple[UUID, int, bytes]], fresh: Sequence[UUID], due_in: timedelta
) -> None:
    """Store chunks of blobs that nobody owns yet, and note those that are not noted."""
    await pool.execute(_INSERT_LOOSE, *map(list, zip(*rows, strict=True)), fresh, due_in)


async def read(pool: Pool, blob_id: UUID, start: int, stop: int) -> bytes:
    """Some bytes of a blob from `start` on, at most up to `stop`; empty when there are none."""
    piece: bytes | None = await pool.fetchval(_READ, blob_id, start, stop)
    return piece or b""


async def delete(pool: Pool | Connection, blob_ids: Sequence[UUID]) -> None:
    """Delete every chunk of these blobs."""
    await pool.execute("DELETE FROM upload_chunks WHERE blob_id = ANY($1)", blob_ids)
