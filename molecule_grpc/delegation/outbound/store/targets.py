"""The SQL by which dispatch reads workspaces, and notes their activity."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from molecule_grpc.db.month_spend import MONTH_SPEND
from molecule_grpc.db.pool import Pool
from molecule_grpc.events.names import EventType


async def over_budget(pool: Pool, workspace_id: UUID) -> bool:
    """Whether a workspace has used up its month's budget."""
    found: bool | None = await pool.fetchval(
        f"SELECT {MONTH_SPEND} >= w.budget_limit FROM workspaces w WHERE w.id = $1", workspace_id
    )
    return bool(found)


async def sign_of_life(pool: Pool, workspace_id: UUID) -> float | None:
    """Seconds since a workspace's last recorded activity; None when there is none.

    Rows of the record count for an hour, delegations created within the last day.
    """
    found: float | None = await pool.fetchval(
        """
        SELECT extract(epoch FROM now() - greatest(
            w.last_heartbeat_at, w.last_outbound_at,
            (SELECT a.created_at FROM activity_logs a
             WHERE a.workspace_id = w.id AND a.created_at > now() - interval '1 hour'
               AND (a.source_id = w.id OR a.method = 'notify')
             ORDER BY a.created_at DESC LIMIT 1),
            (SELECT max(d.last_heartbeat) FROM delegations d
             WHERE d.callee_id = w.id AND d.created_at > now() - interval '1 day')
        ))::float
        FROM workspaces w WHERE w.id = $1
        """,
        workspace_id,
    )
    return found


async def last_messages(pool: Pool, workspace_ids: Sequence[UUID]) -> list[tuple[UUID, datetime]]:
    """When workspaces had their last task or message; now, where one is open or waits.

    A workspace without any is left out.
    """
    rows = await pool.fetch(
        """
        SELECT w.id, x.at FROM unnest($1::uuid[]) AS w (id) CROSS JOIN LATERAL (
            SELECT CASE
                WHEN EXISTS (
                    SELECT FROM a2a_queue q
                    WHERE q.workspace_id = w.id AND q.status IN ('queued', 'dispatched')
                ) OR EXISTS (
                    SELECT FROM delegations d
                    WHERE d.callee_id = w.id AND d.created_at > now() - interval '7 days'
                      AND d.status IN ('queued', 'dispatched', 'in_progress')
                ) THEN now()
                ELSE (
                    SELECT a.created_at FROM activity_logs a WHERE a.workspace_id = w.id
                    ORDER BY a.created_at DESC LIMIT 1
                ) END AS at
        ) x
        WHERE x.at IS NOT NULL
        """,
        list(workspace_ids),
    )
    return [(row["id"], row["at"]) for row in rows]


async def touch_outbound(pool: Pool, workspace_id: UUID) -> None:
    """Note that a workspace has sent a message, at most once a second."""
    await pool.execute(
        """
        UPDATE workspaces SET last_outbound_at = now()
        WHERE id = $1 AND (last_outbound_at IS NULL
                           OR last_outbound_at < now() - interval '1 second')
        """,
        workspace_id,
    )


async def show_answer(pool: Pool, workspace_id: UUID, payload: str) -> None:
    """Publish an agent's answer to a human as a live event. `payload` is JSON text."""
    await pool.execute(
        """
        INSERT INTO live_events (id, event_type, organization_id, workspace_id, payload)
        SELECT gen_random_uuid(), $3, organization_id, id, $2::jsonb
        FROM workspaces WHERE id = $1
        """,
        workspace_id,
        payload,
        EventType.A2A_RESPONSE,
    )


async def reset_phantoms(pool: Pool, *, limit: int) -> list[UUID]:
    """Reset the active tasks of workspaces that claim to be busy without any activity; their ids.

    Their record has no row from the last ten minutes, and no message for them is under a lease.
    """
    rows = await pool.fetch(
        """
        UPDATE workspaces SET active_tasks = 0, current_task = '' WHERE id IN (
            SELECT w.id FROM workspaces w
            WHERE w.active_tasks > 0 AND w.status <> 'removed'
              AND NOT EXISTS (
                  SELECT FROM activity_logs a
                  WHERE a.workspace_id = w.id AND a.created_at > now() - interval '10 minutes'
              )
              AND NOT EXISTS (
                  SELECT FROM a2a_queue q WHERE q.workspace_id = w.id AND q.status = 'dispatched'
              )
            ORDER BY w.id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
        )
        RETURNING id
        """,
        limit,
    )
    return [row["id"] for row in rows]
