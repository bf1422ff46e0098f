"""What stands in the database, so that a test sees whether anything changed."""

from __future__ import annotations

import asyncpg

# What a session leaves when it ends on the server, a moment after it ended for the client, and
# what is stamped beside calls.
_BESIDE = [
    "last_used_at", "fetched_at", "lease_holder", "lease_epoch", "lease_until", "lease_since",
    "lease_window", "sent_seq", "lost_by_client",
]  # fmt: skip
# What a heartbeat shows comes a moment after it was answered.
_SHOWN_LATER = "live_events WHERE event_type NOT IN ('TASK_UPDATED', 'WORKSPACE_HEARTBEAT')"


class Rows:
    """The contents of all tables, as one number each."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], tables: list[str]) -> None:
        self._connection = connection
        self._sql = " UNION ALL ".join(
            f"SELECT '{table}', count(*), sum(hashtext((to_jsonb(t) - $1::text[])::text)::bigint)"
            f" FROM (SELECT * FROM {_SHOWN_LATER if table == 'live_events' else table}) t"
            for table in tables
        )

    @classmethod
    async def of(cls, connection: asyncpg.Connection[asyncpg.Record]) -> Rows:
        """Look at every table of this database."""
        found = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        )
        return cls(connection, [row["tablename"] for row in found])

    async def look(self) -> dict[str, tuple[int, int | None]]:
        """Number of rows and checksum of each table."""
        rows = await self._connection.fetch(self._sql, _BESIDE)
        return {name: (count, checksum) for name, count, checksum in rows}
