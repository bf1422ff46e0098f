"""Deletes ended tokens after a set time; until then their holders are told of the end."""

from __future__ import annotations

import itertools

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches

_TABLES = ("workspace_auth_tokens", "org_api_tokens")
_ENDS = ("revoked_at", "expires_at")
_BATCH = 1000

_PRUNE = """
    DELETE FROM {table} WHERE id IN (
        SELECT id FROM {table} WHERE {column} < now() - make_interval(days => $1)
        ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED
    )
"""


async def prune_revoked(pool: Pool, *, days: int) -> None:
    """Delete tokens that were revoked, or expired, more than so many days ago.

    Any number of workers may do so at once: locked rows are skipped.
    """
    for table, column in itertools.product(_TABLES, _ENDS):

        async def step(limit: int, sql: str = _PRUNE.format(table=table, column=column)) -> int:
            return int((await pool.execute(sql, days, limit)).split()[-1])

        await in_batches(f"{table} retention", step, batch=_BATCH)
