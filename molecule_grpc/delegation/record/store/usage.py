"""The SQL of what organisations use: bytes of their records today, and delegations under way.

Kept as sums of a few rows for each organisation, so that writers seldom wait for one another and
no statement counts what grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

# A day of the quota of bytes.
TODAY: Final = "(now() AT TIME ZONE 'UTC')::date"
# Writers of different connections mostly add to different rows. What locks for longer, a purge and
# a recount, has a row of its own, so that no writer waits for it.
_SHARD: Final = "pg_backend_pid() % 16"
_PURGE_SHARD: Final = 16
RECOUNT_SHARD: Final = 17
_ROW_BYTES: Final = 256

# What a row of the record counts: its texts, and 256 bytes for the row itself.
RECORD_BYTES: Final = f"""({_ROW_BYTES} + coalesce(octet_length(request_body), 0)
    + coalesce(octet_length(response_body), 0) + coalesce(octet_length(tool_trace), 0)
    + coalesce(octet_length(summary), 0) + coalesce(octet_length(error_detail), 0))"""

# A CTE: what the organisations of `input` use, from a few rows for each.
USAGE: Final = f"""
    usage AS (
        SELECT organization_id, sum(open_delegations)::bigint AS open,
               coalesce(sum(record_bytes) FILTER (WHERE day = {TODAY}), 0)::bigint AS bytes
        FROM organization_usage
        WHERE organization_id = ANY (ARRAY(SELECT DISTINCT organization_id FROM input))
        GROUP BY organization_id
    )
"""


def add_usage(rows: str, size: str, opened: str) -> str:
    """SQL that adds to what organisations use.

    A statement may add to an organisation by one of these only.

    Args:
        rows: FROM and WHERE, with `organization_id` not NULL.
        size: the sum of bytes that enter records.
        opened: the sum of delegations that begin, less those that end.
    """
    return f"""
        INSERT INTO organization_usage AS u
            (organization_id, shard, day, record_bytes, open_delegations)
        SELECT organization_id, {_SHARD}, {TODAY}, {size}, {opened}
        {rows}
        GROUP BY organization_id ORDER BY organization_id
        ON CONFLICT (organization_id, shard) DO UPDATE
        SET record_bytes = excluded.record_bytes
                + CASE WHEN u.day = excluded.day THEN u.record_bytes ELSE 0 END,
            day = excluded.day, open_delegations = u.open_delegations + excluded.open_delegations
    """


def added_usage(checked: str = "") -> str:
    """A CTE: what the rows of `placed` add. It reads `placed`, so that heads are locked before.

    Args:
        checked: an expression to be evaluated for each row, `u` as it is then and `old` as it was.
    """
    adding = add_usage(
        "FROM placed WHERE organization_id IS NOT NULL", f"sum({RECORD_BYTES})", "sum(opened)"
    )
    return f"used AS ({adding} {f'RETURNING {checked}' if checked else ''})"


_FORGET = f"""
    INSERT INTO organization_usage AS u
        (organization_id, shard, day, record_bytes, open_delegations)
    SELECT w.organization_id, {_PURGE_SHARD}, {TODAY}, 0, -sum(h.open_delegations)
    FROM inbox_heads h JOIN workspaces w ON w.id = h.workspace_id
    WHERE h.workspace_id = ANY ($1) AND h.open_delegations <> 0
    GROUP BY 1 ORDER BY 1
    ON CONFLICT (organization_id, shard) DO UPDATE
    SET open_delegations = u.open_delegations + excluded.open_delegations
"""


class Usage(NamedTuple):
    """What an organisation uses.

    Args:
        open: its delegations that are under way.
        bytes: bytes that entered its records today, by the day of UTC.
    """

    open: int
    bytes: int


async def of_organization(pool: Pool | Connection, organization_id: UUID) -> Usage:
    """What an organisation uses now."""
    row = await pool.fetchrow(
        f"""
        SELECT coalesce(sum(open_delegations), 0)::bigint,
               coalesce(sum(record_bytes) FILTER (WHERE day = {TODAY}), 0)::bigint
        FROM organization_usage WHERE organization_id = $1
        """,
        organization_id,
    )
    assert row is not None
    return Usage(*row)


async def open_of(pool: Pool, workspace_id: UUID) -> int:
    """How many delegations are under way that a workspace has handed out."""
    found: int | None = await pool.fetchval(
        "SELECT open_delegations FROM inbox_heads WHERE workspace_id = $1", workspace_id
    )
    return found or 0


async def forget(conn: Connection, workspace_ids: Sequence[UUID]) -> None:
    """Let go of the delegations under way of workspaces that are purged. Their heads are locked.

    When such a delegation ends, its caller is not there any more, and nothing is counted.
    """
    await conn.execute(_FORGET, workspace_ids)
