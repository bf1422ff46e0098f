"""The SQL of files that wait for their agents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.upload.store.loose import LAZY


class UploadDraft(NamedTuple):
    """A file that is about to become visible. The order of the fields is that of `_INSERT`."""

    file_id: UUID
    filename: str
    mimetype: str
    size: int
    sha256: bytes

    @property
    def content(self) -> tuple[str, str, int, bytes]:
        """What a repeat of the request must bring again: all but the id."""
        return self.filename, self.mimetype, self.size, self.sha256


class StoredFile(NamedTuple):
    """A visible file. The order of the fields is that of `_COLUMNS`."""

    file_id: UUID
    filename: str
    mimetype: str
    size: int
    sha256: bytes
    workspace_id: UUID
    storage: str
    created_at: datetime
    fetched_at: datetime | None
    expires_at: datetime
    position: int

    @property
    def draft(self) -> UploadDraft:
        """The fields that were known before the file became visible."""
        return UploadDraft(self.file_id, self.filename, self.mimetype, self.size, self.sha256)


class SweptFile(NamedTuple):
    """A file that a sweep deleted. The order of the fields is that of `_SWEEP`.

    Args:
        outcome: `acked` or `expired`.
    """

    outcome: str
    file_id: UUID
    workspace_id: UUID
    filename: str
    size: int


class QuotaUsage(NamedTuple):
    """What a workspace has waiting, unfinished uploads included."""

    files: int
    bytes: int


_COLUMNS = """
    file_id, filename, mimetype, size_bytes, sha256, workspace_id, storage, created_at, fetched_at,
    expires_at, position
"""

# Where the list goes on: time of creation, place in its request, and id of the last file seen.
Place = tuple[datetime, int, UUID]

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

# Blobs without an owner are listed in `loose_blobs`. An agent may be reading a file that expires
# now: the bytes of expired files are due only after the grace.
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
) -> list[StoredFile]:
    """The files that a request brought, in the order of the request."""
    rows = await conn.fetch(
        f"""
        SELECT {_COLUMNS} FROM pending_uploads
        WHERE workspace_id = $1 AND request_id = $2 ORDER BY position
        """,
        workspace_id,
        request_id,
    )
    return [StoredFile(*row) for row in rows]


async def usage(conn: Connection | Pool, workspace_id: UUID) -> QuotaUsage:
    """What counts against a workspace's quota."""
    row = await conn.fetchrow(_USAGE, workspace_id)
    assert row is not None
    return QuotaUsage(row[0], int(row[1]))


async def drop_acked(conn: Connection | Pool, workspace_id: UUID) -> None:
    """Delete acknowledged files before their time: others need the room."""
    await conn.execute(_RELEASE, [workspace_id], False)


async def purge(conn: Connection, workspace_ids: Sequence[UUID]) -> None:
    """Delete every file and upload of these workspaces. Their bytes are due at once."""
    await conn.execute(_RELEASE, list(workspace_ids), True)


async def readable(
    pool: Pool, workspace_id: UUID, file_id: UUID, *, after_ack: bool
) -> StoredFile | None:
    """A file that is not expired and, unless `after_ack`, not acknowledged."""
    row = await pool.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM pending_uploads
        WHERE file_id = $1 AND workspace_id = $2 AND expires_at > now()
          AND (acked_at IS NULL OR $3)
        """,
        file_id,
        workspace_id,
        after_ack,
    )
    return None if row is None else StoredFile(*row)


async def find(conn: Connection | Pool, workspace_id: UUID, file_id: UUID) -> StoredFile | None:
    """A file in any state, also acknowledged or expired; None when unknown."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM pending_uploads WHERE file_id = $1 AND workspace_id = $2",
        file_id,
        workspace_id,
    )
    return None if row is None else StoredFile(*row)


async def waiting(
    pool: Pool, workspace_id: UUID, *, after: Place | None, limit: int
) -> list[StoredFile]:
    """Files behind a place that are neither acknowledged nor expired, oldest first."""
    rows = await pool.fetch(
        f"""
        SELECT {_COLUMNS} FROM pending_uploads
        WHERE workspace_id = $1 AND acked_at IS NULL AND expires_at > now()
            AND ($2::timestamptz IS NULL
                 OR (created_at, position, file_id) > ($2, $3::integer, $4::uuid))
        ORDER BY created_at, position, file_id LIMIT $5
        """,
        workspace_id,
        *(after or (None, None, None)),
        limit,
    )
    return [StoredFile(*row) for row in rows]


async def mark_fetched(pool: Pool, file_id: UUID) -> None:
    """Note when a file was read to its end. A crash of the database may lose the note."""
    await pool.execute(
        f"""
        WITH {LAZY}
        UPDATE pending_uploads SET fetched_at = now() FROM lazy WHERE file_id = $1
        """,
        file_id,
    )


class AckedFile(NamedTuple):
    """What an ack met. All fields are None when a sweep deleted the file at the same moment."""

    already: bool | None
    filename: str | None
    size: int | None


async def ack(pool: Pool, workspace_id: UUID, file_id: UUID) -> AckedFile | None:
    """Mark a file as safely received; None when there is none."""
    row = await pool.fetchrow(_ACK, workspace_id, file_id)
    return None if row is None else AckedFile(*row)


async def sweep(
    pool: Pool, ack_retention: timedelta, grace: timedelta, *, limit: int
) -> list[SweptFile]:
    """Delete files that were acknowledged long enough ago, and those that expired.

    Args:
        grace: how much longer the bytes of an expired file stay.
        limit: most files of each kind.
    """
    rows = await pool.fetch(_SWEEP, ack_retention, grace, limit)
    return [SweptFile(*row) for row in rows]
