"""The SQL of creating, changing and deleting schedules."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.quotas import Quota
from molecule_grpc.schedules.store.reading import count_of_organization, count_of_workspace
from molecule_grpc.schedules.values import Schedule, ScheduleText

_COLUMNS = ", ".join(Schedule._fields)


class Owner(NamedTuple):
    """A live workspace, and its organisation."""

    workspace_id: UUID
    organization_id: UUID


async def owner(conn: Connection, workspace_id: UUID) -> Owner | None:
    """A live workspace, held against its purge; None when there is none.

    Until the transaction ends no other one adds schedules to its organisation, so that quotas
    hold.
    """
    organization_id = await conn.fetchval(
        """
        SELECT organization_id FROM workspaces WHERE id = $1 AND status <> 'removed'
        FOR KEY SHARE
        """,
        workspace_id,
    )
    if organization_id is None:
        return None
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('schedules ' || $1::uuid, 0))",
        organization_id,
    )
    return Owner(workspace_id, organization_id)


async def require_room(
    conn: Connection, of: Owner, per_organization: Quota, per_workspace: Quota
) -> None:
    """Refuse a schedule above the quota of its organisation or workspace.

    Raises:
        Exhausted: QUOTA_EXCEEDED.
    """
    if per_workspace.exceeded(await count_of_workspace(conn, of.workspace_id)):
        raise per_workspace.refusal(of.workspace_id)
    if per_organization.exceeded(await count_of_organization(conn, of.organization_id)):
        raise per_organization.refusal(of.organization_id)


async def insert(
    conn: Connection,
    schedule_id: UUID,
    of: Owner,
    text: ScheduleText,
    first: datetime,
    source: str,
) -> bool:
    """Add a schedule. False when the workspace has one of this name."""
    found = await conn.fetchval(
        """
        INSERT INTO workspace_schedules (
            id, organization_id, workspace_id, name, cron_expr, timezone, prompt, enabled, source,
            next_run_at, look_at
        )
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN $8 THEN $10::timestamptz END,
                CASE WHEN $8 THEN $10::timestamptz END)
        ON CONFLICT (workspace_id, name) DO NOTHING RETURNING true
        """,
        schedule_id,
        of.organization_id,
        of.workspace_id,
        text.name,
        text.cron_expr,
        text.timezone,
        text.prompt,
        text.enabled,
        source,
        first,
    )
    return found is not None


async def hold(conn: Connection, workspace_id: UUID, schedule_id: UUID) -> Schedule | None:
    """A schedule of a live workspace, locked; None when there is none."""
    row = await conn.fetchrow(
        f"""
        SELECT {", ".join("s." + name for name in Schedule._fields)}
        FROM workspace_schedules s JOIN workspaces w ON w.id = s.workspace_id
        WHERE s.id = $1 AND s.workspace_id = $2 AND w.status <> 'removed'
        FOR NO KEY UPDATE OF s
        """,
        schedule_id,
        workspace_id,
    )
    return None if row is None else Schedule(*row)


async def hold_named(conn: Connection, workspace_id: UUID, name: str) -> Schedule | None:
    """The schedule of a name, locked; None when the workspace has none of it."""
    row = await conn.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM workspace_schedules WHERE workspace_id = $1 AND name = $2
        FOR NO KEY UPDATE
        """,
        workspace_id,
        name,
    )
    return None if row is None else Schedule(*row)


async def name_taken(conn: Connection, workspace_id: UUID, name: str, but: UUID) -> bool:
    """Whether another schedule of the workspace has a name."""
    found: bool = await conn.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM workspace_schedules WHERE workspace_id = $1 AND name = $2 AND id <> $3
        )
        """,
        workspace_id,
        name,
        but,
    )
    return found


async def change(
    conn: Connection, schedule_id: UUID, text: ScheduleText, next_run_at: datetime | None
) -> None:
    """Give a locked schedule another text.

    Args:
        next_run_at: its next fire; None for a disabled one. Another one than before is looked at
            when it comes.
    """
    await conn.execute(
        """
        UPDATE workspace_schedules SET
            name = $2, cron_expr = $3, timezone = $4, prompt = $5, enabled = $6, next_run_at = $7,
            look_at = CASE WHEN next_run_at = $7 THEN look_at ELSE $7 END,
            waiting_since = CASE WHEN next_run_at = $7 THEN waiting_since END,
            updated_at = now()
        WHERE id = $1
        """,
        schedule_id,
        text.name,
        text.cron_expr,
        text.timezone,
        text.prompt,
        text.enabled,
        next_run_at,
    )


async def delete(pool: Pool, workspace_id: UUID, schedule_id: UUID) -> bool:
    """Delete a schedule with its history. False when the workspace has no such schedule."""
    found = await pool.fetchval(
        "DELETE FROM workspace_schedules WHERE id = $1 AND workspace_id = $2 RETURNING true",
        schedule_id,
        workspace_id,
    )
    return found is not None


async def disable_all(conn: Connection, workspace_ids: list[UUID]) -> None:
    """Switch off the schedules of workspaces."""
    await conn.execute(
        """
        UPDATE workspace_schedules SET
            enabled = false, next_run_at = NULL, look_at = NULL, waiting_since = NULL
        WHERE id IN (
            SELECT id FROM workspace_schedules WHERE workspace_id = ANY($1) AND enabled
            ORDER BY id FOR NO KEY UPDATE
        )
        """,
        workspace_ids,
    )
