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
    """Take blobs off the list, since they get owners; False when a sweep deletes one of them."""
    status = await conn.execute(
        """
        DELETE FROM loose_blobs WHERE storage = $1 AND blob_id = ANY($2) AND NOT deleting
        """,
        storage,
        blob_ids,
    )
    return int(status.split()[-1]) == len(blob_ids)


async def take_due(pool: Pool, storage: str, *, limit: int, again_in: timedelta) -> list[UUID]:
    """Blobs that are due: the caller deletes them, then calls `forget`.

    From here on no commit can own them. A blob that has an owner, because two commits of the file
    ran at once, leaves the list and is not returned. Any number of sweeps may run at once.

    Args:
        again_in: when a blob is due again that nobody forgets, since its sweep died.
    """
    rows = await pool.fetch(
        """
        WITH due AS (
            SELECT blob_id, EXISTS (
                SELECT FROM pending_uploads p
                WHERE p.file_id = l.blob_id AND p.storage = l.storage
            ) AS owned
            FROM loose_blobs l
            WHERE due_at <= now() AND storage = $1
            ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
        ),
        owned AS (
            DELETE FROM loose_blobs l USING due d
            WHERE d.owned AND l.blob_id = d.blob_id AND l.storage = $1
        )
        UPDATE loose_blobs l SET deleting = true, due_at = now() + $3::interval
        FROM due d
        WHERE NOT d.owned AND l.blob_id = d.blob_id AND l.storage = $1
        RETURNING l.blob_id
        """,
        storage,
        limit,
        again_in,
    )
    return [row["blob_id"] for row in rows]


async def forget(pool: Pool, storage: str, blob_ids: Sequence[UUID]) -> None:
    """Take blobs off the list that their store has deleted."""
    await pool.execute(
        "DELETE FROM loose_blobs WHERE storage = $1 AND blob_id = ANY($2) AND deleting",
        storage,
        blob_ids,
    )


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
