"""What stands in the database, so that a test sees whether anything changed."""

from __future__ import annotations

import asyncpg

# What a session leaves when it ends on the server, a moment after it ended for the client, and
# what is stamped beside calls.
_BESIDE = [
    "last_used_at", "fetched_at", "lease_holder", "lease_epoch", "lease_until", "lease_since",
    "lease_window", "sent_seq", "lost_by_client", "last_recalled_at",
    "last_run_at", "last_status", "last_error", "run_count", "consecutive_empty_runs",
]  # fmt: skip
_CHECKSUM = (
    "sum(hashtext((to_jsonb(t) - ARRAY["
    + ", ".join(f"'{column}'" for column in _BESIDE)
    + "])::text)::bigint)::bigint"
)
# Events of a heartbeat and entries of the audit log are written a moment after the answer. Tallies,
# sums of what `delegations` shows itself, are summed up in the background, where sweeps take their
# turns. The end of a schedule's fire is noted when its delegation has ended, a decision when its
# agent was told, and a host that a proxy has refused a second later.
_SHOWN_LATER = {
    "live_events": "event_type NOT IN ('TASK_UPDATED', 'WORKSPACE_HEARTBEAT')",
    "audit_log": "false",
    "delegation_tallies": "false",
    "sweep_turns": "false",
    "secret_rollouts": "false",
    "schedule_runs": "false",
    "workspace_refused_hosts": "false",
    "approval_requests": "status = 'pending'",
}


class Rows:
    """The contents of all tables, as one number each."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], tables: list[str]) -> None:
        self._connection = connection
        self._tables = tables
        self._writers: dict[str, tuple[int, int]] = {}
        self._contents: dict[str, tuple[int, int | None]] = {}

    @classmethod
    async def of(cls, connection: asyncpg.Connection[asyncpg.Record]) -> Rows:
        """Look at every table of this database."""
        found = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        )
        return cls(connection, [row["tablename"] for row in found])

    async def look(self) -> dict[str, tuple[int, int | None]]:
        """Number of rows and checksum of each table.

        The checksum reads every column, so a table gets a new one only when the transactions that
        wrote its rows are others than at the last look.
        """
        writers = {
            name: (count, ids)
            for name, count, ids in await self._of_each(
                "sum(t.xmin::text::bigint)::bigint", self._tables
            )
        }
        written = [name for name in self._tables if writers[name] != self._writers.get(name)]
        for name, count, checksum in await self._of_each(_CHECKSUM, written):
            self._contents[name] = count, checksum
        self._writers = writers
        return dict(self._contents)

    async def changed_since(self, before: dict[str, tuple[int, int | None]]) -> list[str]:
        """The tables whose rows are others than `before`."""
        now = await self.look()
        return [table for table in now if now[table] != before.get(table)]

    async def _of_each(self, value: str, tables: list[str]) -> list[asyncpg.Record]:
        """Name, number of rows and this aggregate of each table."""
        if not tables:
            return []
        return await self._connection.fetch(
            " UNION ALL ".join(
                f"SELECT '{table}', count(*), {value}"
                f" FROM {table} t WHERE {_SHOWN_LATER.get(table, 'true')}"
                for table in tables
            )
        )
