"""Rows of `agent_memories` on their way out and in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.memory.store.visible import trusted

FIRST: Final = (datetime(1, 1, 2, tzinfo=UTC), UUID(int=0))
_PAGE: Final = 100


class ExportedRow(NamedTuple):
    """A row with the name of its workspace."""

    id: UUID
    content: str
    scope: str
    label: str
    created_at: datetime
    workspace_name: str


class NewRow(NamedTuple):
    """A row to be stored."""

    id: UUID
    workspace_id: UUID
    content: str
    scope: str
    label: str
    created_at: datetime


async def page(
    conn: Connection | Pool, organization_id: UUID | None, after: tuple[datetime, UUID]
) -> list[ExportedRow]:
    """Up to 100 rows behind one, oldest first."""
    rows = await conn.fetch(
        f"""
        SELECT m.id, m.content, m.scope, m.namespace, m.created_at, w.name
        FROM agent_memories m JOIN workspaces w ON w.id = m.workspace_id
        WHERE (m.created_at, m.id) > ($2, $3)
          AND ($1::uuid IS NULL OR w.organization_id = $1)
          AND {trusted("w.organization_id", "w.id")}
        ORDER BY m.created_at, m.id LIMIT {_PAGE}
        """,
        organization_id,
        *after,
    )
    return [ExportedRow(*row) for row in rows]


async def add(conn: Connection, row: NewRow) -> bool:
    """Store a row unless its workspace has the same text in the same scope; whether it did."""
    return bool(
        await conn.fetchval(
            """
            INSERT INTO agent_memories (id, workspace_id, content, scope, namespace, created_at)
            SELECT $1, $2, $3, $4::text, $5, $6
            WHERE NOT EXISTS (
                SELECT FROM agent_memories
                WHERE workspace_id = $2 AND content = $3 AND scope = $4::text
            )
            ON CONFLICT (id) DO NOTHING RETURNING true
            """,
            *row,
        )
    )
