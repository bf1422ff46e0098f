"""A transaction in which all statements of one search see the same rows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import NamedTuple

from molecule_grpc.db.pool import Connection, Pool, database_errors

# A statement is cancelled after 10 s; each of its sorts takes 32 MB of memory, then uses the disk.
_SETTINGS = """
    SELECT now() AS now, set_config('statement_timeout', '10000', true),
           set_config('work_mem', '32MB', true),
           set_config('plan_cache_mode', 'force_custom_plan', true)
"""


class Snapshot(NamedTuple):
    """An open transaction, and the time at which it began."""

    connection: Connection
    now: datetime


@contextlib.asynccontextmanager
async def snapshot(pool: Pool) -> AsyncIterator[Snapshot]:
    """A transaction that writes nothing. Raises Unavailable as `database_errors` does."""
    with database_errors():
        async with (
            pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            (row,) = await connection.fetch(_SETTINGS)
            yield Snapshot(connection, row["now"])
