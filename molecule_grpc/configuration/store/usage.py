"""Rows of used tokens: one for each workspace and day of UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool


class UsageRow(NamedTuple):
    """Tokens of a day, and how many answers told of them."""

    input_tokens: int
    output_tokens: int
    calls: int
    since: datetime
    until: datetime


class Used(NamedTuple):
    """Tokens, and how many answers told of them."""

    read: int
    written: int
    calls: int


async def today(pool: Pool, workspace_id: UUID, within: UUID | None) -> UsageRow | None:
    """A live workspace's tokens of today; None for an unknown or removed workspace."""
    row = await pool.fetchrow(
        """
        SELECT coalesce(u.input_tokens, 0), coalesce(u.output_tokens, 0),
               coalesce(u.call_count, 0), d.since, d.since + interval '1 day'
        FROM (SELECT date_trunc('day', now(), 'UTC') AS since) d
        CROSS JOIN workspaces w
        LEFT JOIN workspace_token_usage u
            ON u.workspace_id = w.id AND u.period_start = (d.since AT TIME ZONE 'UTC')::date
        WHERE w.id = $1 AND w.status <> 'removed' AND ($2::uuid IS NULL OR w.organization_id = $2)
        """,
        workspace_id,
        within,
    )
    return None if row is None else UsageRow(*row)


async def add(pool: Pool, used: Mapping[UUID, Used]) -> None:
    """Add tokens to those of today, in id order like everybody who changes many rows."""
    if not used:
        return
    ids = sorted(used)
    columns = zip(*(used[each] for each in ids), strict=True)
    await pool.execute(
        """
        INSERT INTO workspace_token_usage AS u
            (workspace_id, period_start, input_tokens, output_tokens, call_count)
        SELECT w.id, (now() AT TIME ZONE 'UTC')::date, n.read, n.written, n.calls
        FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::integer[])
            AS n (id, read, written, calls)
        JOIN workspaces w ON w.id = n.id AND w.status <> 'removed'
        ORDER BY w.id
        ON CONFLICT (workspace_id, period_start) DO UPDATE
        SET input_tokens = u.input_tokens + excluded.input_tokens,
            output_tokens = u.output_tokens + excluded.output_tokens,
            call_count = least(u.call_count::bigint + excluded.call_count, 2147483647)
        """,
        ids,
        *map(list, columns),
    )


async def drop_old(pool: Pool, days: int, limit: int) -> int:
    """Delete up to so many rows of days that are longer ago; how many."""
    done: str = await pool.execute(
        """
        DELETE FROM workspace_token_usage WHERE (workspace_id, period_start) IN (
            SELECT workspace_id, period_start FROM workspace_token_usage
            WHERE period_start < (now() AT TIME ZONE 'UTC')::date - $1::integer LIMIT $2
        )
        """,
        days,
        limit,
    )
    return int(done.rpartition(" ")[2])
