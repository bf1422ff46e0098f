"""The SQL of the registry: what agents announce, and who fell silent."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.events.names import EventType
from molecule_grpc.workspace.status import EXTERNAL_SILENT, REGISTERED, SILENT
from molecule_grpc.workspace.store.moves import (
    EVENT_NAMES,
    KEEP_EVENTS,
    change_event,
    event_columns,
    may,
    status_event,
)

# An operator's pause and a hibernation outlive a late registration; a failure does not.
_REGISTER = f"""
    WITH moved AS (
        UPDATE workspaces w SET
            agent_card = $2, url = $3, delivery_mode = $4, last_heartbeat_at = now(),
            updated_at = now(),
            platform_inbound_secret = coalesce(nullif(w.platform_inbound_secret, ''), $5),
            last_sample_error = CASE WHEN w.status <> 'failed' THEN w.last_sample_error END,
            status = CASE WHEN {may(REGISTERED)} THEN '{REGISTERED.target}' ELSE w.status END
        WHERE w.id = $1 AND w.status <> 'removed'
        RETURNING new.platform_inbound_secret,
                  {event_columns(status_event("$6", change_event("agent_card", "$7")))}
    ), kept AS ({KEEP_EVENTS})
    SELECT platform_inbound_secret FROM moved
"""

_UPDATE_CARD = f"""
    WITH moved AS (
        UPDATE workspaces w SET agent_card = $2, updated_at = now()
        WHERE w.id = $1 AND w.status <> 'removed'
        RETURNING {event_columns(f"CASE {change_event('agent_card', '$3')} END")}
    ), kept AS ({KEEP_EVENTS})
    SELECT workspace_id FROM moved
"""

# Both moves of silence leave the same states. A row that somebody else holds is being changed right
# now: the next pass looks at it again.
_SWEEP = f"""
    WITH silent AS (
        SELECT id FROM workspaces w
        WHERE {may(SILENT)} AND id > $3
          AND coalesce(last_heartbeat_at, updated_at) < now() - make_interval(
              secs => CASE WHEN runtime = 'external' THEN $1::float ELSE $2::float END)
        ORDER BY id LIMIT $4
        FOR NO KEY UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE workspaces w SET
            updated_at = now(),
            status = CASE WHEN w.runtime = 'external' THEN '{EXTERNAL_SILENT.target}'
                          ELSE '{SILENT.target}' END::workspace_status
        FROM silent WHERE w.id = silent.id
        RETURNING {event_columns(status_event("$5"))}
    ), kept AS ({KEEP_EVENTS})
    SELECT workspace_id FROM moved ORDER BY workspace_id
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
) -> str | None:
    """Store what an agent announced, and `secret` where there is none yet.

    Returns: the workspace's inbound secret; None when the workspace is removed.
    """
    stored: str | None = await conn.fetchval(
        _REGISTER, workspace_id, card, url, mode, secret, EVENT_NAMES, EventType.AGENT_CARD_UPDATED
    )
    return stored


async def update_card(pool: Pool, workspace_id: UUID, card: str) -> bool:
    """Replace the card of a live workspace. False when there is none."""
    found = await pool.fetchval(_UPDATE_CARD, workspace_id, card, EventType.AGENT_CARD_UPDATED)
    return found is not None


async def sweep_silent(
    pool: Pool, external_after: float, other_after: float, *, after: UUID, limit: int
) -> list[UUID]:
    """Move at most `limit` workspaces that were not heard of for so many seconds.

    Args:
        external_after: seconds of silence of an external workspace, which then awaits its agent.
        other_after: seconds of silence of any other, which then is offline.
        after: only workspaces with a greater id are looked at.

    Returns: the workspaces that moved, by id.
    """
    rows = await pool.fetch(_SWEEP, external_after, other_after, after, limit, EVENT_NAMES)
    return [row["workspace_id"] for row in rows]
