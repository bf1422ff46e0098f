"""The SQL of asking for approvals."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from molecule_grpc.approvals.values import Asked
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.events.names import EventType


async def lock(conn: Connection, workspace_id: UUID) -> bool:
    """Hold a live workspace against its purge, and let nobody else ask in its name meanwhile.

    False when there is none.
    """
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('approvals ' || $1::uuid, 0))", workspace_id
    )
    found = await conn.fetchval(
        "SELECT true FROM workspaces WHERE id = $1 AND status <> 'removed' FOR KEY SHARE",
        workspace_id,
    )
    return found is not None


async def count_pending(conn: Connection | Pool, workspace_id: UUID) -> int:
    """How many requests of a workspace are pending."""
    found: int = await conn.fetchval(
        "SELECT count(*) FROM approval_requests WHERE workspace_id = $1 AND status = 'pending'",
        workspace_id,
    )
    return found


async def insert(conn: Connection, approval_id: UUID, workspace_id: UUID, asked: Asked) -> datetime:
    """Store a request and its events. Returns the time at which the request expires."""
    found: datetime = await conn.fetchval(
        """
        WITH entered AS (
            INSERT INTO approval_requests (
                id, organization_id, workspace_id, action, reason, task_id, context, expires_at
            )
            SELECT $1, organization_id, id, $3, $4, $5, $6::jsonb,
                   now() + make_interval(secs => $7)
            FROM workspaces WHERE id = $2
            RETURNING *
        ),
        happened AS (
            INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
            SELECT gen_random_uuid(), e.type, r.organization_id, e.workspace_id,
                   jsonb_strip_nulls(jsonb_build_object(
                       'approval_id', r.id, 'action', r.action, 'reason', nullif(r.reason, ''),
                       'task_id', nullif(r.task_id, ''), 'from_workspace_id', e.source))
            FROM entered r JOIN workspaces w ON w.id = r.workspace_id
            CROSS JOIN LATERAL (
                VALUES ($8::text, w.id, NULL::uuid), ($9::text, w.parent_id, w.id)
            ) e (type, workspace_id, source)
            WHERE e.workspace_id IS NOT NULL
        )
        SELECT expires_at FROM entered
        """,
        approval_id,
        workspace_id,
        asked.action,
        asked.reason,
        asked.task_id,
        asked.context,
        asked.seconds,
        EventType.APPROVAL_REQUESTED,
        EventType.APPROVAL_ESCALATED,
    )
    return found
