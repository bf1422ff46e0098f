"""The SQL of reading requests."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.approvals.values import Approval, Status
from molecule_grpc.db.pool import Pool

_COLUMNS = """
    a.id, a.workspace_id, w.name AS workspace_name, a.action, a.reason, a.task_id,
    a.context::text AS context, a.status, a.decided_by, a.decided_at, a.expires_at, a.created_at
"""


class Place(NamedTuple):
    """Where a list goes on: the sort key of its last row."""

    created_at: datetime
    id: UUID


async def get(
    pool: Pool, approval_id: UUID, workspace_id: UUID, within: UUID | None
) -> Approval | None:
    """A request of a workspace; None when there is none.

    Args:
        within: the only organisation that the workspace may be of; None for any.
    """
    row = await pool.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM approval_requests a JOIN workspaces w ON w.id = a.workspace_id
        WHERE a.id = $1 AND a.workspace_id = $2 AND ($3::uuid IS NULL OR a.organization_id = $3)
        """,
        approval_id,
        workspace_id,
        within,
    )
    return None if row is None else _approval(row)


async def of_workspace(
    pool: Pool, workspace_id: UUID, *, behind: Place | None, limit: int
) -> list[Approval]:
    """Requests of a workspace, newest first, from behind a place."""
    rows = await pool.fetch(
        f"""
        SELECT {_COLUMNS} FROM approval_requests a JOIN workspaces w ON w.id = a.workspace_id
        WHERE a.workspace_id = $1
          AND ($2::timestamptz IS NULL OR (a.created_at, a.id) < ($2, $3::uuid))
        ORDER BY a.created_at DESC, a.id DESC LIMIT $4
        """,
        workspace_id,
        *(behind or (None, None)),
        limit,
    )
    return [_approval(row) for row in rows]


async def pending(
    pool: Pool, organization_id: UUID | None, *, behind: Place | None, limit: int
) -> list[Approval]:
    """Pending requests of an organisation or of all, newest first, from behind a place."""
    rows = await pool.fetch(
        f"""
        SELECT {_COLUMNS} FROM approval_requests a JOIN workspaces w ON w.id = a.workspace_id
        WHERE a.status = 'pending' AND a.expires_at > now() AND w.status <> 'removed'
          AND ($1::uuid IS NULL OR a.organization_id = $1)
          AND ($2::timestamptz IS NULL OR (a.created_at, a.id) < ($2, $3::uuid))
        ORDER BY a.created_at DESC, a.id DESC LIMIT $4
        """,
        organization_id,
        *(behind or (None, None)),
        limit,
    )
    return [_approval(row) for row in rows]


def _approval(row: asyncpg.Record) -> Approval:
    return Approval(*row)._replace(status=Status(row["status"]))
