"""The table `agent_memories` as an old installation leaves it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

TABLE = """
    CREATE TABLE agent_memories (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        workspace_id uuid NOT NULL,
        content text NOT NULL,
        scope varchar(10) NOT NULL CHECK (scope IN ('LOCAL', 'TEAM', 'GLOBAL')),
        namespace varchar(50) NOT NULL DEFAULT 'general',
        content_tsv tsvector GENERATED ALWAYS AS (to_tsvector('english', content)) STORED,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )
"""


async def add_row(
    conn: Connection | Pool,
    workspace_id: UUID,
    content: str,
    scope: str = "LOCAL",
    *,
    label: str = "general",
    created_at: datetime | None = None,
) -> UUID:
    """A row of the old table."""
    row_id: UUID = await conn.fetchval(
        "INSERT INTO agent_memories (workspace_id, content, scope, namespace, created_at)"
        " VALUES ($1, $2, $3, $4, coalesce($5, clock_timestamp())) RETURNING id",
        workspace_id,
        content,
        scope,
        label,
        created_at,
    )
    return row_id
