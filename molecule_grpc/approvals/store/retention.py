"""The SQL of deleting old requests."""

from __future__ import annotations

from molecule_grpc.db.pool import Pool


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
