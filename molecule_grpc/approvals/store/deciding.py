"""The SQL of decisions: by people or for lack of time, and telling agents of them."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.approvals.values import TIMEOUT, Decided, Status
from molecule_grpc.db.pool import Pool
from molecule_grpc.events.names import EventType

# Another worker tells a decision when this one did not within so many seconds.
_TELL_AGAIN_SECONDS = 30.0


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
