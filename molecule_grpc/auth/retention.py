"""Revoked tokens leave after a set time: until then their holders are told what happened."""

from __future__ import annotations

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches

_TABLES = ("workspace_auth_tokens", "org_api_tokens")
_BATCH = 1000

_PRUNE = """
    DELETE FROM {table} WHERE id IN (
        SELECT id FROM {table} WHERE revoked_at < now() - make_interval(days => $1)
        ORDER BY revoked_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )
"""


async def prune_revoked(pool: Pool, *, days: int) -> None:
    """Delete tokens that were revoked more than so many days ago.

    Any number of workers may do so at once: locked rows are skipped.
    """
    for table in _TABLES:

        async def step(limit: int, sql: str = _PRUNE.format(table=table)) -> int:
            return int((await pool.execute(sql, days, limit)).split()[-1])

        await in_batches(f"{table} retention", step, batch=_BATCH)
