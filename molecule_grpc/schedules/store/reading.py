"""The SQL of reading schedules."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.schedules.values import HealthRow, Schedule

_COLUMNS = ", ".join(Schedule._fields)


async def get(pool: Pool, workspace_id: UUID, schedule_id: UUID) -> Schedule | None:
    """A schedule of a workspace; None when the workspace has no such schedule."""
    row = await pool.fetchrow(
        f"SELECT {_COLUMNS} FROM workspace_schedules WHERE id = $1 AND workspace_id = $2",
        schedule_id,
        workspace_id,
    )
    return None if row is None else Schedule(*row)


async def of_workspace(
    pool: Pool, workspace_id: UUID, *, behind: tuple[str, UUID] | None, limit: int
) -> list[Schedule]:
    """Schedules of a workspace by name, from behind a place."""
    rows = await pool.fetch(
        f"""
        SELECT {_COLUMNS} FROM workspace_schedules
        WHERE workspace_id = $1
          AND ($2::text IS NULL OR (name COLLATE "C", id) > ($2 COLLATE "C", $3::uuid))
        ORDER BY name COLLATE "C", id LIMIT $4
        """,
        workspace_id,
        *(behind or (None, None)),
        limit,
    )
    return [Schedule(*row) for row in rows]


class Place(NamedTuple):
    """Where a list of health goes on: the sort key of its last row."""

    workspace_name: str
    schedule_name: str
    schedule_id: UUID


async def health(
    pool: Pool,
    organization_id: UUID | None,
    workspace_id: UUID | None,
    *,
    behind: Place | None,
    limit: int,
) -> list[HealthRow]:
    """What the health of schedules is judged by, by names of workspace and schedule.

    Args:
        organization_id: None for all organisations.
        workspace_id: None for all workspaces.
    """
    rows = await pool.fetch(
        """
        SELECT s.workspace_id, w.name AS workspace_name, s.id, s.name, s.cron_expr, s.timezone,
               s.enabled, s.last_run_at, s.next_run_at
        FROM workspace_schedules s JOIN workspaces w ON w.id = s.workspace_id
        WHERE w.status <> 'removed'
          AND ($1::uuid IS NULL OR s.organization_id = $1)
          AND ($2::uuid IS NULL OR s.workspace_id = $2)
          AND ($3::text IS NULL OR (w.name COLLATE "C", s.name COLLATE "C", s.id)
                                   > ($3 COLLATE "C", $4 COLLATE "C", $5::uuid))
        ORDER BY w.name COLLATE "C", s.name COLLATE "C", s.id LIMIT $6
        """,
        organization_id,
        workspace_id,
        *(behind or (None, None, None)),
        limit,
    )
    return [HealthRow(*row) for row in rows]


async def count_of_organization(conn: Connection | Pool, organization_id: UUID) -> int:
    """How many schedules an organisation's live workspaces have."""
    found: int = await conn.fetchval(
        """
        SELECT count(*) FROM workspace_schedules s JOIN workspaces w ON w.id = s.workspace_id
        WHERE s.organization_id = $1 AND w.status <> 'removed'
        """,
        organization_id,
    )
    return found


async def count_of_workspace(conn: Connection | Pool, workspace_id: UUID) -> int:
    """How many schedules a workspace has."""
    found: int = await conn.fetchval(
        "SELECT count(*) FROM workspace_schedules WHERE workspace_id = $1", workspace_id
    )
    return found
