"""The SQL of tallies: how many delegations have ended, kept as sums of small rows.

A statement that ends delegations, or deletes ended ones, adds a row with the difference in the same
transaction. Nobody updates a row, so that no two writers wait for each other.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.delegation.ledger.store.fragments import FINAL_STATUSES, LIVE_STATUSES

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
    """Count the ledger and repair the tallies; by how much they were wrong in all.

    Inside a transaction. Reads every row of the ledger, for up to ten minutes.
    """
    if not await conn.fetchval(_LOCK):
        return 0
    await conn.execute(f"SET LOCAL statement_timeout = '{_RECOUNT_SECONDS:.0f}s'")
    wrong: int = await conn.fetchval(_RECOUNT, timeout=_RECOUNT_SECONDS)
    return wrong
