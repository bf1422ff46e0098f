"""The SQL of files that are written in several requests."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool


class UploadSession(NamedTuple):
    """A file that is not complete. The order of the fields is that of `_COLUMNS`."""

    upload_id: UUID
    workspace_id: UUID
    organization_id: UUID
    filename: str
    mimetype: str
    size: int
    committed_bytes: int
    request_id: str | None
    expires_at: datetime


_COLUMNS = """
    upload_id, workspace_id, organization_id, filename, mimetype, size_bytes, committed_bytes,
    request_id, expires_at
"""

_WRITE = """
    WITH moved AS (
        UPDATE upload_sessions SET committed_bytes = committed_bytes + length($4::bytea)
        WHERE upload_id = $2 AND workspace_id = $1 AND committed_bytes = $3::int
          AND committed_bytes + length($4::bytea) <= size_bytes AND expires_at > now()
        RETURNING committed_bytes
    )
    INSERT INTO upload_chunks (blob_id, start_offset, data) SELECT $2, $3::int, $4 FROM moved
"""

_DROP = """
    WITH gone AS (DELETE FROM upload_sessions WHERE upload_id = $1 RETURNING upload_id)
    INSERT INTO loose_blobs (blob_id, storage, due_at) SELECT upload_id, 'postgres', now() FROM gone
"""


async def start(
    conn: Connection,
    upload_id: UUID,
    *,
    workspace_id: UUID,
    organization_id: UUID,
    filename: str,
    mimetype: str,
    size: int,
    request_id: str | None,
    ttl: timedelta,
) -> UploadSession:
    """Begin an upload."""
    row = await conn.fetchrow(
        f"""
        INSERT INTO upload_sessions (
            upload_id, workspace_id, organization_id, filename, mimetype, size_bytes, request_id,
            expires_at
        )
        VALUES ($1, $2, $3, $4, $5, $6, $7, now() + $8::interval)
        RETURNING {_COLUMNS}
        """,
        upload_id,
        workspace_id,
        organization_id,
        filename,
        mimetype,
        size,
        request_id,
        ttl,
    )
    assert row is not None
    return UploadSession(*row)


async def find(
    conn: Connection | Pool, workspace_id: UUID, upload_id: UUID
) -> UploadSession | None:
    """An upload that is neither committed nor given up."""
    row = await conn.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM upload_sessions
        WHERE upload_id = $1 AND workspace_id = $2 AND expires_at > now()
        """,
        upload_id,
        workspace_id,
    )
    return None if row is None else UploadSession(*row)


async def of_request(conn: Connection, workspace_id: UUID, request_id: str) -> UploadSession | None:
    """The upload that a request began."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM upload_sessions WHERE workspace_id = $1 AND request_id = $2",
        workspace_id,
        request_id,
    )
    return None if row is None else UploadSession(*row)


async def write(pool: Pool, workspace_id: UUID, upload_id: UUID, offset: int, data: bytes) -> bool:
    """Add bytes at `offset`; False when the stored ones end elsewhere, or these are too many."""
    status = await pool.execute(_WRITE, workspace_id, upload_id, offset, data)
    return status != "INSERT 0 0"


async def take(conn: Connection, upload_id: UUID) -> bool:
    """End an upload whose bytes get an owner; False when it had ended before."""
    status = await conn.execute("DELETE FROM upload_sessions WHERE upload_id = $1", upload_id)
    return status != "DELETE 0"


async def drop(conn: Connection | Pool, upload_id: UUID) -> bool:
    """End an upload, and list its bytes for the sweep; False when it had ended before."""
    return await conn.execute(_DROP, upload_id) != "INSERT 0 0"
