"""The SQL of files that are written in several steps."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Connection, Pool

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
) -> asyncpg.Record:
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
    return row


async def find(
    conn: Connection | Pool, workspace_id: UUID, upload_id: UUID
) -> asyncpg.Record | None:
    """An upload that goes on."""
    return await conn.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM upload_sessions
        WHERE upload_id = $1 AND workspace_id = $2 AND expires_at > now()
        """,
        upload_id,
        workspace_id,
    )


async def of_request(
    conn: Connection, workspace_id: UUID, request_id: str
) -> asyncpg.Record | None:
    """The upload that a request began."""
    return await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM upload_sessions WHERE workspace_id = $1 AND request_id = $2",
        workspace_id,
        request_id,
    )


async def write(pool: Pool, workspace_id: UUID, upload_id: UUID, offset: int, data: bytes) -> bool:
    """Add bytes where the stored ones end; False when that is elsewhere, or they are too many."""
    status = await pool.execute(_WRITE, workspace_id, upload_id, offset, data)
    return status != "INSERT 0 0"


async def take(conn: Connection, upload_id: UUID) -> bool:
    """End an upload whose bytes get an owner; False when somebody else ended it."""
    status = await conn.execute("DELETE FROM upload_sessions WHERE upload_id = $1", upload_id)
    return status != "DELETE 0"


async def drop(conn: Connection | Pool, upload_id: UUID) -> bool:
    """End an upload, and let go of its bytes; False when somebody else ended it."""
    return await conn.execute(_DROP, upload_id) != "INSERT 0 0"
