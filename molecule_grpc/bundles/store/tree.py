"""The SQL of reading a tree of workspaces, and of noting which bundle a workspace came from."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool


class Node(NamedTuple):
    """A workspace of a tree.

    Args:
        card: JSON text; None when the agent announced none.
        level: 1 for the root.
    """

    id: UUID
    parent_id: UUID | None
    name: str
    role: str
    tier: int
    runtime: str
    model: str
    card: str | None
    level: int


async def below(pool: Pool, root: UUID, within: UUID | None, limit: int) -> list[Node]:
    """A live workspace and its live descendants, siblings oldest first; at most so many.

    Args:
        within: the only organisation that the workspace may be of; None for any.
    """
    rows = await pool.fetch(
        """
        WITH RECURSIVE down (id, level) AS (
            SELECT id, 1 FROM workspaces
            WHERE id = $1 AND status <> 'removed' AND ($2::uuid IS NULL OR organization_id = $2)
            UNION ALL
            SELECT w.id, d.level + 1 FROM down d JOIN workspaces w ON w.parent_id = d.id
            WHERE w.status <> 'removed' AND d.level < 60
        )
        SELECT w.id, w.parent_id, w.name, coalesce(w.role, ''), w.tier, w.runtime,
               coalesce(w.model, ''), w.agent_card::text, d.level
        FROM (SELECT * FROM down LIMIT $3) d JOIN workspaces w USING (id)
        ORDER BY d.level, w.created_at, w.id
        """,
        root,
        within,
        limit,
    )
    return [Node(*row) for row in rows]


async def note_origin(
    conn: Connection, workspace_id: UUID, bundle_id: str, card: str | None
) -> None:
    """Note from which bundle a new workspace came, and the card that the bundle brought."""
    await conn.execute(
        """
        UPDATE workspaces SET source_bundle_id = nullif($2, ''), agent_card = $3::jsonb
        WHERE id = $1
        """,
        workspace_id,
        bundle_id,
        card,
    )
