"""The SQL of blobs without an owner: they are being written, or wait to be deleted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

# Bytes need no flush to disk of their own: the commit that makes their file visible comes later
# in the log, and flushes them too.
LAZY = "lazy AS (SELECT set_config('synchronous_commit', 'off', true) AS done)"


async def note(pool: Pool, blob_id: UUID, storage: str, due_in: timedelta) -> None:
    """List a blob that is about to be written; the sweep may delete it after `due_in`."""
    await pool.execute(
        f"""
        WITH {LAZY}
        INSERT INTO loose_blobs (blob_id, storage, due_at)
        SELECT $1, $2, now() + $3::interval FROM lazy
        ON CONFLICT (blob_id, storage) DO UPDATE SET due_at = excluded.due_at
        """,
        blob_id,
        storage,
        due_in,
    )


async def release(conn: Connection, storage: str, blob_ids: Sequence[UUID]) -> bool:
    """Take blobs off the list, since they get owners; False when the sweep had one already."""
    status = await conn.execute(
        "DELETE FROM loose_blobs WHERE storage = $1 AND blob_id = ANY($2)", storage, blob_ids
    )
    return int(status.split()[-1]) == len(blob_ids)


async def take_due(conn: Connection, storage: str, *, limit: int) -> list[UUID]:
    """Take blobs that are due off the list, and lock them until the transaction ends.

    A commit that would still own one of them waits for the lock, and then fails. A blob that has an
    owner, because two commits of the file ran at once, leaves the list and is not returned.
    """
    rows = await conn.fetch(
        """
        DELETE FROM loose_blobs l WHERE (l.blob_id, l.storage) IN (
            SELECT blob_id, storage FROM loose_blobs
            WHERE due_at <= now() AND storage = $1
            ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        RETURNING l.blob_id, EXISTS (
            SELECT FROM pending_uploads p
            WHERE p.file_id = l.blob_id AND p.storage = l.storage
        ) AS owned
        """,
        storage,
        limit,
    )
    return [row["blob_id"] for row in rows if not row["owned"]]


async def known(pool: Pool, storage: str, blob_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these blobs that have an owner or are on the list."""
    rows = await pool.fetch(
        """
        SELECT file_id AS id FROM pending_uploads WHERE file_id = ANY($1) AND storage = $2
        UNION SELECT blob_id FROM loose_blobs WHERE blob_id = ANY($1) AND storage = $2
        UNION SELECT upload_id FROM upload_sessions
              WHERE upload_id = ANY($1) AND $2 = 'postgres'
        """,
        blob_ids,
        storage,
    )
    return {row["id"] for row in rows}
