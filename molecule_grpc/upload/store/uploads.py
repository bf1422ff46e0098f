"""The SQL of files that wait for their agents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.upload.store.loose import LAZY


class UploadDraft(NamedTuple):
    """A file that is about to become visible. The order of the fields is that of `_INSERT`."""

    file_id: UUID
    filename: str
    mimetype: str
    size: int
    sha256: bytes


class Usage(NamedTuple):
    """What a workspace keeps waiting, unfinished uploads included."""

    files: int
    bytes: int


_COLUMNS = """
    file_id, workspace_id, organization_id, filename, mimetype, size_bytes, sha256, storage,
    request_id, position, created_at, fetched_at, acked_at, expires_at
"""

_INSERT = """
    INSERT INTO pending_uploads (
        file_id, filename, mimetype, size_bytes, sha256, position,
        workspace_id, organization_id, storage, request_id, expires_at
    )
    SELECT d.*, $6, $7, $8, $9, now() + $10::interval
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bytea[])
        WITH ORDINALITY AS d
"""

_USAGE = """
    SELECT count(*), coalesce(sum(size_bytes), 0) FROM (
        SELECT size_bytes FROM pending_uploads WHERE workspace_id = $1
        UNION ALL
        SELECT size_bytes FROM upload_sessions WHERE workspace_id = $1
    ) kept
"""

# What has an owner no longer is on the list of loose blobs from then on. Somebody may be reading
# a file that expires now: its bytes stay a little longer.
_SWEEP = """
    WITH acked AS (
        DELETE FROM pending_uploads WHERE file_id IN (
            SELECT file_id FROM pending_uploads
            WHERE acked_at <= now() - $1::interval LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        RETURNING file_id, workspace_id, filename, size_bytes, storage
    ),
    expired AS (
        DELETE FROM pending_uploads WHERE file_id IN (
            SELECT file_id FROM pending_uploads
            WHERE acked_at IS NULL AND expires_at <= now() LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        RETURNING file_id, workspace_id, filename, size_bytes, storage
    ),
    lapsed AS (
        DELETE FROM upload_sessions WHERE upload_id IN (
            SELECT upload_id FROM upload_sessions
            WHERE expires_at <= now() LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        RETURNING upload_id
    ),
    gone AS (
        SELECT 'acked' AS outcome, now() AS due, * FROM acked
        UNION ALL SELECT 'expired', now() + $2::interval, * FROM expired
    ),
    loosened AS (
        INSERT INTO loose_blobs (blob_id, storage, due_at)
        SELECT file_id, storage, due FROM gone
        UNION ALL SELECT upload_id, 'postgres', now() FROM lapsed
        ON CONFLICT (blob_id, storage) DO UPDATE SET due_at = excluded.due_at
    )
    SELECT outcome, file_id, workspace_id, filename, size_bytes FROM gone
"""

_RELEASE = """
    WITH gone AS (
        DELETE FROM pending_uploads WHERE workspace_id = ANY($1) AND (acked_at IS NOT NULL OR $2)
        RETURNING file_id, storage
    ),
    void AS (
        DELETE FROM upload_sessions WHERE workspace_id = ANY($1) AND $2 RETURNING upload_id
    )
    INSERT INTO loose_blobs (blob_id, storage, due_at)
    SELECT file_id, storage, now() FROM gone UNION ALL SELECT upload_id, 'postgres', now() FROM void
    ON CONFLICT (blob_id, storage) DO UPDATE SET due_at = excluded.due_at
"""

_ACK = """
    WITH seen AS (
        SELECT FROM pending_uploads WHERE file_id = $2 AND workspace_id = $1
    ),
    acked AS (
        UPDATE pending_uploads SET acked_at = coalesce(acked_at, now())
        WHERE file_id = $2 AND workspace_id = $1
        RETURNING acked_at <> now() AS already, filename, size_bytes
    )
    SELECT a.already, a.filename, a.size_bytes FROM seen LEFT JOIN acked a ON true
"""


async def lock(conn: Connection, workspace_id: UUID) -> None:
    """Be the only one that adds files for this workspace, until the transaction ends."""
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('uploads ' || $1::uuid::text, 0))",
        workspace_id,
    )


async def insert(
    conn: Connection,
    drafts: Sequence[UploadDraft],
    *,
    workspace_id: UUID,
    organization_id: UUID,
    storage: str,
    request_id: str | None,
    ttl: timedelta,
) -> None:
    """Make files visible, in this order."""
    arrays = map(list, zip(*drafts, strict=True))
    await conn.execute(_INSERT, *arrays, workspace_id, organization_id, storage, request_id, ttl)


async def of_request(
    conn: Connection | Pool, workspace_id: UUID, request_id: str
) -> list[asyncpg.Record]:
    """The files that a request brought, in its order."""
    return await conn.fetch(
        f"""
        SELECT {_COLUMNS} FROM pending_uploads
        WHERE workspace_id = $1 AND request_id = $2 ORDER BY position
        """,
        workspace_id,
        request_id,
    )


async def usage(conn: Connection | Pool, workspace_id: UUID) -> Usage:
    """What a workspace keeps waiting."""
    row = await conn.fetchrow(_USAGE, workspace_id)
    assert row is not None
    return Usage(row[0], int(row[1]))


async def drop_acked(conn: Connection | Pool, workspace_id: UUID) -> None:
    """Let acknowledged files go before their time: others need the room."""
    await conn.execute(_RELEASE, [workspace_id], False)


async def purge(conn: Connection, workspace_ids: list[UUID]) -> None:
    """Let go of everything of these workspaces. Their bytes are due at once."""
    await conn.execute(_RELEASE, workspace_ids, True)


async def readable(
    pool: Pool, workspace_id: UUID, file_id: UUID, *, after_ack: bool
) -> asyncpg.Record | None:
    """A file that its agent may read now."""
    return await pool.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM pending_uploads
        WHERE file_id = $1 AND workspace_id = $2 AND expires_at > now()
          AND (acked_at IS NULL OR $3)
        """,
        file_id,
        workspace_id,
        after_ack,
    )


async def find(conn: Connection | Pool, workspace_id: UUID, file_id: UUID) -> asyncpg.Record | None:
    """A file, in whatever state."""
    return await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM pending_uploads WHERE file_id = $1 AND workspace_id = $2",
        file_id,
        workspace_id,
    )


async def waiting(pool: Pool, workspace_id: UUID) -> list[asyncpg.Record]:
    """Files that an agent has not acknowledged, oldest first."""
    return await pool.fetch(
        f"""
        SELECT {_COLUMNS} FROM pending_uploads
        WHERE workspace_id = $1 AND acked_at IS NULL AND expires_at > now()
        ORDER BY created_at, position
        """,
        workspace_id,
    )


async def mark_fetched(pool: Pool, file_id: UUID) -> None:
    """Note that a file was read to its end. A crash of the database may forget it."""
    await pool.execute(
        f"""
        WITH {LAZY}
        UPDATE pending_uploads SET fetched_at = now() FROM lazy WHERE file_id = $1
        """,
        file_id,
    )


class Acked(NamedTuple):
    """What an ack met. The rest is None when the file left at the same moment."""

    already: bool | None
    filename: str | None
    size: int | None


async def ack(pool: Pool, workspace_id: UUID, file_id: UUID) -> Acked | None:
    """Mark a file as safely received; None when there is none."""
    row = await pool.fetchrow(_ACK, workspace_id, file_id)
    return None if row is None else Acked(*row)


async def sweep(
    pool: Pool, ack_retention: timedelta, grace: timedelta, *, limit: int
) -> list[asyncpg.Record]:
    """Let go of files that were acknowledged long enough ago, and of those that expired.

    Args:
        grace: how much longer the bytes of an expired file stay.
        limit: most files of each kind.
    """
    return await pool.fetch(_SWEEP, ack_retention, grace, limit)
