"""The SQL of registrations."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import URL_BY_ENGINE
from molecule_grpc.events.names import EventType
from molecule_grpc.workspace.status import EVENTS, REGISTERED
from molecule_grpc.workspace.store.moves import (
    KEEP_EVENTS,
    event_column,
    may,
    new_status,
    new_value,
)

_TOLD = event_column(new_status({REGISTERED.target: "$6"}), new_value("agent_card", "$7"))

# An operator's pause and a hibernation outlive a late registration; a failure does not.
_REGISTER = f"""
    WITH moved AS (
        UPDATE workspaces w SET
            agent_card = $2, delivery_mode = $4, last_heartbeat_at = now(),
            updated_at = now(),
            -- The engine's word stands, whatever an agent in a container says of itself.
            url = CASE WHEN w.{URL_BY_ENGINE} THEN w.url ELSE $3 END,
            platform_inbound_secret = coalesce(nullif(w.platform_inbound_secret, ''), $5),
            last_sample_error = CASE WHEN w.status <> 'failed' THEN w.last_sample_error END,
            status = CASE WHEN {may(REGISTERED)} THEN '{REGISTERED.target}' ELSE w.status END
        WHERE w.id = $1 AND w.status <> 'removed' AND ($8::uuid IS NULL OR w.organization_id = $8)
        RETURNING {_TOLD},
                  new.platform_inbound_secret
    ), kept AS ({KEEP_EVENTS})
    SELECT platform_inbound_secret FROM moved
"""

_UPDATE_CARD = f"""
    WITH moved AS (
        UPDATE workspaces w SET agent_card = $2, updated_at = now()
        WHERE w.id = $1 AND w.status <> 'removed' AND ($4::uuid IS NULL OR w.organization_id = $4)
        RETURNING {event_column(new_value("agent_card", "$3"))}
    ), kept AS ({KEEP_EVENTS})
    SELECT workspace_id FROM moved
"""


class Registrant(NamedTuple):
    """A workspace that an agent registers as.

    Args:
        delivery_mode: as stated earlier; None where nobody has.
        has_token: whether one of its tokens is live.
        engine_url: whether the engine that runs the agent says where it is called.
    """

    organization_id: UUID
    status: str
    runtime: str
    delivery_mode: str | None
    has_token: bool
    engine_url: bool


async def registrant(pool: Pool, workspace_id: UUID) -> Registrant | None:
    """A workspace before a registration, removed or not."""
    row = await pool.fetchrow(
        f"""
        SELECT organization_id, status, runtime, delivery_mode, EXISTS (
            SELECT FROM workspace_auth_tokens t
            WHERE t.workspace_id = w.id AND t.revoked_at IS NULL
                AND (t.expires_at IS NULL OR t.expires_at > now())) AS has_token,
            {URL_BY_ENGINE} AS engine_url
        FROM workspaces w WHERE id = $1
        """,
        workspace_id,
    )
    return Registrant(*row) if row else None


async def register(
    conn: Connection,
    workspace_id: UUID,
    within: UUID | None,
    *,
    card: str,
    url: str,
    mode: str | None,
    secret: str,
) -> str | None:
    """Store what an agent announced, and `secret` where there is none yet.

    Args:
        within: the only organisation that the workspace may be of; None for any.
        mode: as stated; None where nobody has.

    Returns: the workspace's inbound secret; None when the workspace is removed.
    """
    stored: str | None = await conn.fetchval(
        _REGISTER,
        workspace_id,
        card,
        url,
        mode,
        secret,
        EVENTS[REGISTERED.target],
        EventType.AGENT_CARD_UPDATED,
        within,
    )
    return stored


async def update_card(pool: Pool, workspace_id: UUID, within: UUID | None, card: str) -> bool:
    """Replace the card of a live workspace of this organisation. False when there is none."""
    found = await pool.fetchval(
        _UPDATE_CARD, workspace_id, card, EventType.AGENT_CARD_UPDATED, within
    )
    return found is not None
