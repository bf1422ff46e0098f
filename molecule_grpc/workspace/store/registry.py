"""The SQL of the registry: what agents announce, and who fell silent."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Connection, Pool

# An operator's pause and a hibernation outlive a late registration; a failure does not.
_REGISTER = """
    UPDATE workspaces SET
        agent_card = $2, url = $3, delivery_mode = $4, last_heartbeat_at = now(),
        updated_at = now(),
        platform_inbound_secret = coalesce(nullif(platform_inbound_secret, ''), $5),
        last_sample_error = CASE WHEN status <> 'failed' THEN last_sample_error END,
        status = CASE WHEN status IN ('paused', 'hibernating', 'hibernated') THEN status
                      ELSE 'online' END
    WHERE id = $1 AND status <> 'removed'
    RETURNING status, platform_inbound_secret
"""

# What somebody else holds is being changed right now: the next pass looks again.
_SWEEP = """
    WITH silent AS (
        SELECT id FROM workspaces
        WHERE status IN ('online', 'degraded')
          AND coalesce(last_heartbeat_at, updated_at) < now() - make_interval(
              secs => CASE WHEN runtime = 'external' THEN $1::float ELSE $2::float END)
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE workspaces w SET
        updated_at = now(),
        status = CASE WHEN w.runtime = 'external' THEN 'awaiting_agent'
                      ELSE 'offline' END::workspace_status
    FROM silent WHERE w.id = silent.id
"""


async def registration(pool: Pool, workspace_id: UUID) -> asyncpg.Record | None:
    """What a registration builds on."""
    return await pool.fetchrow(
        """
        SELECT status, runtime, delivery_mode, EXISTS (
            SELECT FROM workspace_auth_tokens t
            WHERE t.workspace_id = w.id AND t.revoked_at IS NULL) AS has_token
        FROM workspaces w WHERE id = $1
        """,
        workspace_id,
    )


async def register(
    conn: Connection, workspace_id: UUID, *, card: str, url: str, mode: str, secret: str
) -> asyncpg.Record | None:
    """Store what an agent announced; `secret` only where there is none. None when removed."""
    return await conn.fetchrow(_REGISTER, workspace_id, card, url, mode, secret)


async def update_card(pool: Pool, workspace_id: UUID, card: str) -> bool:
    """Replace the card of a live workspace. False when there is none."""
    status = await pool.execute(
        """
        UPDATE workspaces SET agent_card = $2, updated_at = now()
        WHERE id = $1 AND status <> 'removed'
        """,
        workspace_id,
        card,
    )
    return bool(status == "UPDATE 1")


async def sweep_silent(pool: Pool, external_after: float, other_after: float) -> int:
    """Move those unheard of for so many seconds: external ones wait for their agent again."""
    status = await pool.execute(_SWEEP, external_after, other_after)
    return int(status.removeprefix("UPDATE "))
