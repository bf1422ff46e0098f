"""The SQL of the queue of messages for agents' URLs: entering it, and looking at it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.delegation.outbound.rules import QueueStatus
from molecule_grpc.quotas import UNLIMITED


class QueueMessage(NamedTuple):
    """A message for the queue. `body` is JSON text, `message_id` the sender's own."""

    id: UUID
    workspace_id: UUID
    caller_id: UUID | None
    priority: int
    body: str
    method: str
    message_id: str
    expiry: timedelta


_REPLACE_EXPIRED = """
    UPDATE a2a_queue SET status = 'dropped', completed_at = now(), last_error = 'expired'
    WHERE workspace_id = $1 AND idempotency_key = $2 AND caller_id IS NOT DISTINCT FROM $3
      AND delegation_id IS NULL AND status = 'queued' AND expires_at <= now()
"""

# With a lease owner ($9) the message is on its way already and enters as `dispatched`.
_INSERT = f"""
    INSERT INTO a2a_queue (
        id, workspace_id, caller_id, priority, body, method, idempotency_key, expires_at,
        status, lease_owner, lease_until, dispatched_at
    )
    SELECT $1, $2, $3, $4, $5::jsonb, $6, $7, now() + $8::interval,
           CASE WHEN $9::text IS NULL THEN 'queued' ELSE 'dispatched' END, $9,
           CASE WHEN $9 IS NOT NULL THEN now() + make_interval(secs => $10) END,
           CASE WHEN $9 IS NOT NULL THEN now() END
    WHERE $11 >= {UNLIMITED} OR $11 > (
        SELECT count(*) FROM (
            SELECT FROM a2a_queue WHERE workspace_id = $2 AND status = 'queued' LIMIT $11
        ) waiting
    )
    ON CONFLICT DO NOTHING
    RETURNING id
"""


async def insert(
    conn: Connection,
    message: QueueMessage,
    *,
    limit: int,
    owner: str | None = None,
    lease_seconds: float = 0.0,
) -> UUID | None:
    """Put a message into the queue and return the row's id. Inside a transaction.

    An earlier row's id when this sender's message waits already; None when the queue is full.

    Args:
        limit: most messages that may wait for the workspace.
        owner: who sends the message now; None when it shall wait.
        lease_seconds: how long the owner is believed to send it.
    """
    key = (message.workspace_id, message.message_id, message.caller_id)
    await conn.execute(_REPLACE_EXPIRED, *key)
    found: UUID | None = await conn.fetchval(_INSERT, *message, owner, lease_seconds, limit)
    return found or await find(conn, *key)


async def find(
    conn: Pool | Connection, workspace_id: UUID, message_id: str, caller_id: UUID | None
) -> UUID | None:
    """The live row that holds this sender's message; None when there is none."""
    found: UUID | None = await conn.fetchval(
        """
        SELECT id FROM a2a_queue
        WHERE workspace_id = $1 AND idempotency_key = $2 AND caller_id IS NOT DISTINCT FROM $3
          AND delegation_id IS NULL AND status IN ('queued', 'dispatched')
          AND (status = 'dispatched' OR expires_at > now())
        """,
        workspace_id,
        message_id,
        caller_id,
    )
    return found


async def depth(conn: Pool | Connection, workspace_id: UUID) -> int:
    """How many messages wait for a workspace."""
    found: int = await conn.fetchval(
        "SELECT count(*) FROM a2a_queue WHERE workspace_id = $1 AND status = 'queued'",
        workspace_id,
    )
    return found


class QueueEntry(NamedTuple):
    """A message in the queue without its body. `response_body` is JSON text."""

    id: UUID
    workspace_id: UUID
    caller_id: UUID | None
    status: QueueStatus
    priority: int
    attempts: int
    last_error: str | None
    enqueued_at: datetime
    next_attempt_at: datetime
    dispatched_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime
    response_body: str | None
    organization_id: UUID


async def get(pool: Pool, workspace_id: UUID, queue_id: UUID) -> QueueEntry | None:
    """A message of this workspace's queue; None when the queue has no such message."""
    row = await pool.fetchrow(
        """
        SELECT q.id, q.workspace_id, q.caller_id, q.status, q.priority, q.attempts, q.last_error,
               q.enqueued_at, q.next_attempt_at, q.dispatched_at, q.completed_at, q.expires_at,
               q.response_body, w.organization_id
        FROM a2a_queue q JOIN workspaces w ON w.id = q.workspace_id
        WHERE q.id = $2 AND q.workspace_id = $1
        """,
        workspace_id,
        queue_id,
    )
    return None if row is None else QueueEntry(*row)
