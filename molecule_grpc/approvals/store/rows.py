"""The SQL of requests for approvals."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.approvals.values import TIMEOUT, Approval, Asked, Decided, Status
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.events.names import EventType

# Another worker tells a decision when this one did not within so many seconds.
_TELL_AGAIN_SECONDS = 30.0
_COLUMNS = """
    a.id, a.workspace_id, w.name AS workspace_name, a.action, a.reason, a.task_id,
    a.context::text AS context, a.status, a.decided_by, a.decided_at, a.expires_at, a.created_at
"""


def _approval(row: asyncpg.Record) -> Approval:
    return Approval(*row)._replace(status=Status(row["status"]))


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


# Events of `decided`, rows of approval_requests; $1 is the type.
_TELL = """
    happened AS (
        INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
        SELECT gen_random_uuid(), $1::text, organization_id, workspace_id,
               jsonb_strip_nulls(jsonb_build_object(
                   'approval_id', id, 'action', action, 'task_id', nullif(task_id, ''),
                   'status', status, 'decided_by', decided_by))
        FROM decided
    )
"""


async def decide(
    pool: Pool, approval_id: UUID, workspace_id: UUID, status: Status, decided_by: str
) -> bool:
    """Decide a pending request, with the event. False when it is not pending, or too late."""
    found = await pool.fetchval(
        f"""
        WITH decided AS (
            UPDATE approval_requests
            SET status = $4, decided_by = $5, decided_at = now(), tell_at = now()
            WHERE id = $2 AND workspace_id = $3 AND status = 'pending' AND expires_at > now()
            RETURNING *
        ),
        {_TELL}
        SELECT true FROM decided
        """,
        EventType.APPROVAL_DECIDED,
        approval_id,
        workspace_id,
        status,
        decided_by,
    )
    return found is not None


async def expire(pool: Pool, limit: int) -> int:
    """Deny pending requests whose time is over, with their events, at most so many."""
    found = await pool.fetch(
        f"""
        WITH decided AS (
            UPDATE approval_requests
            SET status = 'denied', decided_by = $2, decided_at = now(), tell_at = now()
            WHERE id IN (
                SELECT id FROM approval_requests
                WHERE status = 'pending' AND expires_at <= now()
                ORDER BY expires_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
            )
            RETURNING *
        ),
        {_TELL}
        SELECT true FROM decided
        """,
        EventType.APPROVAL_DECIDED,
        TIMEOUT,
        limit,
    )
    return len(found)


async def take_untold(pool: Pool, limit: int) -> list[Decided]:
    """Decisions that agents were not told yet, for this worker for half a minute.

    A decision is `old` when it was made a day ago.
    """
    rows = await pool.fetch(
        """
        UPDATE approval_requests SET tell_at = now() + make_interval(secs => $1)
        WHERE id IN (
            SELECT id FROM approval_requests WHERE tell_at <= now()
            ORDER BY tell_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
        )
        RETURNING id, workspace_id, action, task_id, status, decided_by,
                  decided_at < now() - interval '1 day' AS old
        """,
        _TELL_AGAIN_SECONDS,
        limit,
    )
    return [Decided(*row)._replace(status=Status(row["status"])) for row in rows]


async def told(pool: Pool, approval_ids: list[UUID]) -> None:
    """Note that agents were told."""
    await pool.execute(
        """
        UPDATE approval_requests SET tell_at = NULL WHERE id IN (
            SELECT id FROM approval_requests WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE
        )
        """,
        approval_ids,
    )


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


class Place(NamedTuple):
    """Where a list goes on: the sort key of its last row."""

    created_at: datetime
    id: UUID


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


async def drop_old(pool: Pool, days: int, limit: int) -> int:
    """Delete requests that were decided so long ago, at most so many."""
    found = await pool.fetch(
        """
        DELETE FROM approval_requests WHERE id IN (
            SELECT id FROM approval_requests
            WHERE decided_at < now() - make_interval(days => $1)
            ORDER BY decided_at LIMIT $2 FOR UPDATE SKIP LOCKED
        ) RETURNING true
        """,
        days,
        limit,
    )
    return len(found)


async def drop_many(pool: Pool, most: int, limit: int) -> int:
    """Delete decided requests of workspaces that have more than `most`, the oldest ones.

    Only workspaces with a decision of the last hour are looked at: the others did not grow.
    """
    found = await pool.fetch(
        """
        DELETE FROM approval_requests WHERE id IN (
            SELECT x.id
            FROM (
                SELECT DISTINCT workspace_id FROM approval_requests
                WHERE decided_at > now() - interval '1 hour'
            ) s
            CROSS JOIN LATERAL (
                SELECT r.id, r.status FROM approval_requests r
                WHERE r.workspace_id = s.workspace_id
                ORDER BY r.created_at DESC, r.id DESC OFFSET $1
            ) x
            WHERE x.status <> 'pending' LIMIT $2
        ) RETURNING true
        """,
        most,
        limit,
    )
    return len(found)
