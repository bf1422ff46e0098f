"""The table `agent_memories` of an old installation, for clients that know scopes."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.memory.store.visible import trusted

_MOST_BYTES: Final = 100_000


class Visible(NamedTuple):
    """Whose rows a reader sees.

    Args:
        own: rows of this workspace, in `own_scope` or in any for an empty one.
        anchor: TEAM rows of this workspace and of its live children.
        root: GLOBAL rows of this workspace.
    """

    own: UUID | None = None
    own_scope: str = ""
    anchor: UUID | None = None
    root: UUID | None = None


class Row(NamedTuple):
    """A row. `label` is its column `namespace`."""

    id: UUID
    workspace_id: UUID
    content: str
    scope: str
    label: str
    created_at: datetime


_ROW = f"""
    m.id, m.workspace_id, left(m.content, {_MOST_BYTES}), m.scope, m.namespace, m.created_at
"""
_VISIBLE = f"""(
    (m.workspace_id = $1 AND ($2 = '' OR m.scope = $2))
    OR (m.scope = 'TEAM' AND m.workspace_id IN (
        SELECT w.id FROM workspaces w
        WHERE (w.id = $3 OR w.parent_id = $3) AND w.status <> 'removed'))
    OR (m.scope = 'GLOBAL' AND m.workspace_id = $4)
) AND ($5 = '' OR m.namespace = $5) AND {trusted("$7", "m.workspace_id")}"""
_NEWEST = f"""
    SELECT {_ROW} FROM agent_memories m WHERE {_VISIBLE}
    ORDER BY m.created_at DESC, m.id DESC LIMIT $6
"""
_HOLDING = f"""
    SELECT {_ROW} FROM agent_memories m WHERE {_VISIBLE} AND strpos(lower(m.content), lower($8)) > 0
    ORDER BY m.created_at DESC, m.id DESC LIMIT $6
"""
_MATCHING = f"""
    SELECT {_ROW}
    FROM agent_memories m, LATERAL to_tsvector('english', m.content) words,
         websearch_to_tsquery('english', $8) query
    WHERE {_VISIBLE} AND words @@ query
    ORDER BY ts_rank(words, query) DESC, m.created_at DESC, m.id DESC LIMIT $6
"""


async def find(
    conn: Connection | Pool,
    organization_id: UUID,
    seen: Visible,
    *,
    text: str,
    label: str,
    limit: int,
) -> list[Row]:
    """Rows with all words of a text, best first; newest first without one."""
    place = (seen.own, seen.own_scope, seen.anchor, seen.root, label, limit, organization_id)
    if not text:
        rows = await conn.fetch(_NEWEST, *place)
    else:
        rows = await conn.fetch(_MATCHING, *place, text) if len(text) > 1 else []
        # Words that the language leaves out, and single letters, match no index.
        rows = rows or await conn.fetch(_HOLDING, *place, text)
    return [Row(*row) for row in rows]


async def add(
    conn: Connection, row_id: UUID, workspace_id: UUID, content: str, scope: str, label: str
) -> None:
    """Store a row."""
    await conn.execute(
        "INSERT INTO agent_memories (id, workspace_id, content, scope, namespace)"
        " VALUES ($1, $2, $3, $4, $5)",
        row_id,
        workspace_id,
        content,
        scope,
        label,
    )


async def lock(conn: Connection, row_id: UUID, workspace_id: UUID) -> Row | None:
    """A row of its owner, locked for a change; None without it."""
    row = await conn.fetchrow(
        f"SELECT {_ROW} FROM agent_memories m WHERE m.id = $1 AND m.workspace_id = $2 FOR UPDATE",
        row_id,
        workspace_id,
    )
    return None if row is None else Row(*row)


async def change(conn: Connection, row_id: UUID, content: str, label: str) -> None:
    """Give a locked row another text or label."""
    await conn.execute(
        "UPDATE agent_memories SET content = $2, namespace = $3, updated_at = now() WHERE id = $1",
        row_id,
        content,
        label,
    )


async def remove(conn: Connection, row_id: UUID, workspace_id: UUID) -> Row | None:
    """Delete a row of a workspace and return this row; None if the workspace has no such row."""
    row = await conn.fetchrow(
        f"DELETE FROM agent_memories m WHERE m.id = $1 AND m.workspace_id = $2 RETURNING {_ROW}",
        row_id,
        workspace_id,
    )
    return None if row is None else Row(*row)
