"""The SQL that deletes delegations a set time after their end."""

from __future__ import annotations

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.ledger.store.fragments import FINAL_STATUSES

_PRUNE = f"""
    WITH old AS (
        SELECT delegation_id, organization_id FROM delegations
        WHERE status IN ({FINAL_STATUSES}) AND updated_at < now() - make_interval(days => $1)
        ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ),
    gone AS (
        DELETE FROM delegations d USING old o
        WHERE d.delegation_id = o.delegation_id AND d.organization_id = o.organization_id
        RETURNING d.organization_id, d.status
    ),
    tallied AS (
        INSERT INTO delegation_tallies (organization_id, status, number)
        SELECT organization_id, status, -count(*) FROM gone GROUP BY 1, 2
    )
    SELECT count(*) FROM gone
"""


async def prune(pool: Pool, *, days: int, limit: int) -> int:
    """Delete delegations that ended more than so many days ago, oldest first; how many.

    An ended row is never written again, so that its last change is its end.
    """
    deleted: int = await pool.fetchval(_PRUNE, days, limit)
    return deleted
