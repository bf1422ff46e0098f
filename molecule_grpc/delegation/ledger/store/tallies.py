"""The SQL of tallies: how many delegations have ended, kept as sums of small rows.

A statement that ends delegations, or deletes ended ones, adds a row with the difference in the same
transaction. Nobody updates a row, so that no two writers wait for each other.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.delegation.ledger.store.fragments import FINAL_STATUSES, LIVE_STATUSES
from molecule_grpc.delegation.record.store.usage import RECOUNT_SHARD, TODAY

# One worker at a time folds or recounts.
_LOCK: Final = "SELECT pg_try_advisory_xact_lock(7310034921557001)"

_COUNT: Final = """
    SELECT status, sum(number)::bigint AS number FROM (
        SELECT status, number FROM delegation_tallies {where}
        UNION ALL
        SELECT status, count(*) FROM delegations
        WHERE status IN ({live}) {both} GROUP BY status
    ) counted
    GROUP BY status HAVING sum(number) <> 0
"""
_COUNT_ALL: Final = _COUNT.format(where="", both="", live=LIVE_STATUSES)
_COUNT_OF_ORGANIZATION: Final = _COUNT.format(
    where="WHERE organization_id = $1", both="AND organization_id = $1", live=LIVE_STATUSES
)

_FOLD: Final = """
    WITH several AS (
        SELECT organization_id, status FROM delegation_tallies GROUP BY 1, 2 HAVING count(*) > 1
    ),
    gone AS (
        DELETE FROM delegation_tallies t USING several s
        WHERE t.organization_id = s.organization_id AND t.status = s.status
        RETURNING t.organization_id, t.status, t.number
    )
    INSERT INTO delegation_tallies (organization_id, status, number)
    SELECT organization_id, status, sum(number) FROM gone GROUP BY 1, 2 HAVING sum(number) <> 0
"""

# Both sides are of one snapshot: the difference is right whatever is added meanwhile.
_RECOUNT: Final = f"""
    WITH counted AS (
        SELECT organization_id, status, count(*) AS number FROM delegations
        WHERE status IN ({FINAL_STATUSES}) GROUP BY 1, 2
    ),
    kept AS (
        SELECT organization_id, status, sum(number)::bigint AS number FROM delegation_tallies
        GROUP BY 1, 2
    ),
    repaired AS (
        INSERT INTO delegation_tallies (organization_id, status, number)
        SELECT organization_id, status, coalesce(c.number, 0) - coalesce(k.number, 0)
        FROM counted c FULL JOIN kept k USING (organization_id, status)
        WHERE coalesce(c.number, 0) <> coalesce(k.number, 0)
        RETURNING abs(number) AS number
    )
    SELECT coalesce(sum(number), 0)::bigint FROM repaired
"""
# Delegations under way, as their callers' heads and their organisations' rows say: repaired alike.
# A caller that was purged has no head, or its id is another organisation's: its delegations count
# for nobody.
_RECOUNT_OPEN: Final = f"""
    WITH counted AS (
        SELECT d.caller_id, d.organization_id, count(*) AS number
        FROM delegations d JOIN workspaces w
            ON w.id = d.caller_id AND w.organization_id = d.organization_id
        WHERE d.status IN ({LIVE_STATUSES}) GROUP BY 1, 2
    ),
    wrong AS (
        SELECT h.workspace_id, coalesce(c.number, 0) - h.open_delegations AS number
        FROM inbox_heads h LEFT JOIN counted c ON c.caller_id = h.workspace_id
        WHERE h.open_delegations <> coalesce(c.number, 0)
    ),
    locked AS (
        SELECT workspace_id FROM inbox_heads WHERE workspace_id IN (SELECT workspace_id FROM wrong)
        ORDER BY workspace_id FOR UPDATE
    ),
    heads AS (
        UPDATE inbox_heads h SET open_delegations = h.open_delegations + w.number
        FROM wrong w JOIN locked l USING (workspace_id) WHERE h.workspace_id = w.workspace_id
        RETURNING abs(w.number) AS number
    ),
    of_organizations AS (
        SELECT organization_id, sum(number) AS number FROM counted GROUP BY 1
    ),
    kept AS (
        SELECT organization_id, sum(open_delegations)::bigint AS number FROM organization_usage
        GROUP BY 1
    ),
    repaired AS (
        INSERT INTO organization_usage AS u
            (organization_id, shard, day, record_bytes, open_delegations)
        SELECT organization_id, {RECOUNT_SHARD}, {TODAY}, 0,
               coalesce(c.number, 0) - coalesce(k.number, 0)
        FROM of_organizations c FULL JOIN kept k USING (organization_id)
        WHERE coalesce(c.number, 0) <> coalesce(k.number, 0)
          -- Heads are locked first, as by every writer.
          AND (SELECT count(*) FROM heads) >= 0
        ORDER BY organization_id
        ON CONFLICT (organization_id, shard) DO UPDATE
        SET open_delegations = u.open_delegations + excluded.open_delegations
    )
    SELECT coalesce(sum(number), 0)::bigint FROM heads
"""
_RECOUNT_SECONDS: Final = 600.0


async def count_by_status(pool: Pool, organization_id: UUID | None) -> dict[str, int]:
    """How many delegations have each status; a status that none has is absent."""
    if organization_id is None:
        rows = await pool.fetch(_COUNT_ALL)
    else:
        rows = await pool.fetch(_COUNT_OF_ORGANIZATION, organization_id)
    return {row["status"]: row["number"] for row in rows}


async def fold(conn: Connection) -> None:
    """Replace the rows of each organisation and status by their sum. Inside a transaction."""
    if await conn.fetchval(_LOCK):
        await conn.execute(_FOLD)


async def recount(conn: Connection) -> int:
    """Count the ledger and repair what is kept of it; by how much that was wrong in all.

    Inside a transaction. Reads every row of the ledger, for up to ten minutes.
    """
    if not await conn.fetchval(_LOCK):
        return 0
    await conn.execute(f"SET LOCAL statement_timeout = '{_RECOUNT_SECONDS:.0f}s'")
    ended: int = await conn.fetchval(_RECOUNT, timeout=_RECOUNT_SECONDS)
    under_way: int = await conn.fetchval(_RECOUNT_OPEN, timeout=_RECOUNT_SECONDS)
    return ended + under_way
