"""Rows of the files that workspaces are first started with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

_OF_START = """
    SELECT f.path, f.content FROM start_files f JOIN start_file_sets s USING (workspace_id)
    WHERE workspace_id = $1 AND ($2 = '' OR s.delivered_to <> $2)
"""


async def bytes_of_organization(
    pool: Pool | Connection, organization_id: UUID, but: UUID | None = None
) -> int:
    """Bytes of the files of all workspaces of an organisation, but perhaps one."""
    found: int = await pool.fetchval(
        """
        SELECT coalesce(sum(bytes), 0)::bigint FROM start_file_sets
        WHERE organization_id = $1 AND workspace_id IS DISTINCT FROM $2
        """,
        organization_id,
        but,
    )
    return found


async def replace(
    conn: Connection, organization_id: UUID, workspace_id: UUID, files: Mapping[str, bytes]
) -> None:
    """Store files in the place of those that are there, to be delivered by the next start."""
    await conn.execute(
        """
        INSERT INTO start_file_sets (workspace_id, organization_id, bytes) VALUES ($1, $2, $3)
        ON CONFLICT (workspace_id) DO UPDATE
        SET bytes = excluded.bytes, delivered_to = '', updated_at = clock_timestamp()
        """,
        workspace_id,
        organization_id,
        sum(map(len, files.values())),
    )
    await conn.execute("DELETE FROM start_files WHERE workspace_id = $1", workspace_id)
    await conn.execute(
        """
        INSERT INTO start_files (workspace_id, path, content)
        SELECT $1, path, content FROM unnest($2::text[], $3::bytea[]) AS f (path, content)
        """,
        workspace_id,
        list(files),
        list(files.values()),
    )


async def of_start(pool: Pool, workspace_id: UUID, kept_by: str) -> dict[str, bytes]:
    """The files of a workspace that the volume of a backend has not got yet; all of them for ''."""
    rows = await pool.fetch(_OF_START, workspace_id, kept_by)
    return {row["path"]: row["content"] for row in rows}


async def note_delivery(
    conn: Connection, workspace_id: UUID, backend: str, read_after: datetime
) -> None:
    """A start with the files has succeeded. Nothing if they were replaced since `read_after`."""
    await conn.execute(
        """
        UPDATE start_file_sets SET delivered_to = $2
        WHERE workspace_id = $1 AND delivered_to <> $2 AND updated_at <= $3
        """,
        workspace_id,
        backend,
        read_after,
    )


async def forget(conn: Connection, workspace_ids: Collection[UUID]) -> None:
    """Delete the files of these workspaces."""
    for table in ("start_files", "start_file_sets"):
        await conn.execute(f"DELETE FROM {table} WHERE workspace_id = ANY ($1)", workspace_ids)
