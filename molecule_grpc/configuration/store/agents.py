"""Rows of assignments. Whoever changes them holds the rows of their workspaces."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

# Assignments of a workspace that have ended and are kept.
_KEPT = 100


class Assignment(NamedTuple):
    """An agent that is assigned to a workspace."""

    id: UUID
    workspace_id: UUID
    model: str
    created_at: datetime


async def of_workspace(
    pool: Pool, workspace_id: UUID, within: UUID | None
) -> list[Assignment | None]:
    """The agent of a live workspace, or None for a workspace without one; empty for no workspace.

    Args:
        within: the only organisation that the workspace may be of; None for any.
    """
    rows = await pool.fetch(
        """
        SELECT a.id, a.workspace_id, a.model, a.created_at
        FROM workspaces w LEFT JOIN agents a ON a.workspace_id = w.id AND a.removed_at IS NULL
        WHERE w.id = $1 AND w.status <> 'removed' AND ($2::uuid IS NULL OR w.organization_id = $2)
        """,
        workspace_id,
        within,
    )
    return [Assignment(*row) if row["id"] else None for row in rows]


async def active(conn: Connection, workspace_id: UUID) -> Assignment | None:
    """The agent of a workspace; None when it has none."""
    row = await conn.fetchrow(
        """
        SELECT id, workspace_id, model, created_at FROM agents
        WHERE workspace_id = $1 AND removed_at IS NULL
        """,
        workspace_id,
    )
    return None if row is None else Assignment(*row)


async def add(conn: Connection, agent_id: UUID, workspace_id: UUID, model: str) -> Assignment:
    """Assign an agent to a workspace that has none."""
    row = await conn.fetchrow(
        """
        INSERT INTO agents (id, workspace_id, model) VALUES ($1, $2, $3)
        RETURNING id, workspace_id, model, created_at
        """,
        agent_id,
        workspace_id,
        model,
    )
    assert row is not None, "an INSERT returns its row"
    return Assignment(*row)


async def end(conn: Connection, agent: Assignment, reason: str) -> None:
    """End an assignment; of those that have ended the workspace keeps the last hundred."""
    await conn.execute(
        "UPDATE agents SET removed_at = clock_timestamp(), removal_reason = $2 WHERE id = $1",
        agent.id,
        reason,
    )
    await conn.execute(
        """
        DELETE FROM agents WHERE id IN (
            SELECT id FROM agents WHERE workspace_id = $1 AND removed_at IS NOT NULL
            ORDER BY removed_at DESC, id OFFSET $2
        )
        """,
        agent.workspace_id,
        _KEPT,
    )


async def move(conn: Connection, agent: Assignment, workspace_id: UUID) -> Assignment:
    """Assign an agent to another workspace that has none."""
    await conn.execute("UPDATE agents SET workspace_id = $2 WHERE id = $1", agent.id, workspace_id)
    return agent._replace(workspace_id=workspace_id)
