"""The SQL of file contents that are kept in Postgres."""

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

_NOTE = f"""
    WITH {LAZY},
    noted AS (
        INSERT INTO loose_blobs (blob_id, storage, due_at)
        SELECT id, 'postgres', now() + $5::interval FROM unnest($4::uuid[]) id
    )
    INSERT INTO upload_chunks (blob_id, start_offset, data)
"""
_INSERT_LOOSE = f"{_NOTE} SELECT c.* FROM lazy, unnest($1::uuid[], $2::int[], $3::bytea[]) c"
# A large file comes chunk by chunk, and putting 1 MiB into an array costs a copy.
_INSERT_ONE_LOOSE = f"{_NOTE} SELECT $1::uuid, $2::int, $3::bytea FROM lazy"

# The chunk that holds this byte.
_READ = """
    SELECT start_offset, data FROM upload_chunks
    WHERE blob_id = $1 AND start_offset <= $2 ORDER BY start_offset DESC LIMIT 1
"""


async def insert(conn: Connection, rows: Sequence[tuple[UUID, int, bytes]]) -> None:
    """Store chunks: which blob, where in it, and the bytes."""
    await conn.execute(_INSERT, *map(list, zip(*rows, strict=True)))


async def insert_loose(
    pool: Pool, rows: Sequence[tuple[UUID, int, bytes]], fresh: Sequence[UUID], due_in: timedelta
) -> None:
    """Store chunks of blobs without an owner.

    Args:
        rows: which blob, where in it, and the bytes.
        fresh: those of the blobs that `loose_blobs` does not list yet; they are listed now.
        due_in: when a listed blob is due for the sweep.
    """
    if len(rows) == 1:
        await pool.execute(_INSERT_ONE_LOOSE, *rows[0], fresh, due_in)
    else:
        await pool.execute(_INSERT_LOOSE, *map(list, zip(*rows, strict=True)), fresh, due_in)


async def read(pool: Pool, blob_id: UUID, start: int, stop: int) -> bytes:
    """Some bytes of a blob from `start` on, at most up to `stop`; empty when there are none."""
    row = await pool.fetchrow(_READ, blob_id, start)
    if row is None:
        return b""
    data: bytes = row["data"]
    first = row["start_offset"]
    whole = start == first and stop - start >= len(data)
    return data if whole else data[start - first : stop - first]


async def delete(pool: Pool | Connection, blob_ids: Sequence[UUID]) -> None:
    """Delete every chunk of these blobs."""
    await pool.execute("DELETE FROM upload_chunks WHERE blob_id = ANY($1)", blob_ids)
