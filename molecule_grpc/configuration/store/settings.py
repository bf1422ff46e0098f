"""Rows of settings, as JSON text."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool


class Settings(NamedTuple):
    """The settings of a workspace; without a time when nobody has set any."""

    text: str
    updated_at: datetime | None


async def get(pool: Pool, workspace_id: UUID, within: UUID | None) -> Settings | None:
    """The settings of a live workspace; None when there is none."""
    row = await pool.fetchrow(
        """
        SELECT coalesce(c.data::text, '{}'), c.updated_at
        FROM workspaces w LEFT JOIN workspace_config c ON c.workspace_id = w.id
        WHERE w.id = $1 AND w.status <> 'removed' AND ($2::uuid IS NULL OR w.organization_id = $2)
        """,
        workspace_id,
        within,
    )
    return None if row is None else Settings(*row)


async def merge(conn: Connection, workspace_id: UUID, text: str) -> int:
    """Set the keys of an object, and keep all other keys. Returns the stored bytes afterwards."""
    stored: int = await conn.fetchval(
        """
        INSERT INTO workspace_config AS c (workspace_id, data) VALUES ($1, $2::jsonb)
        ON CONFLICT (workspace_id) DO UPDATE
        SET data = c.data || excluded.data, updated_at = now()
        RETURNING octet_length(data::text)
        """,
        workspace_id,
        text,
    )
    return stored
