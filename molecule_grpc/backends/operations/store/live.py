"""The SQL of operations that wait or run, and of those that were started lately."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

_BUSY = """
    SELECT DISTINCT workspace_id FROM workspace_operations
    WHERE workspace_id = ANY($1::uuid[]) AND state IN ('pending', 'running')
"""

# Those since somebody has asked for a start. What a death leads to is told by its source.
_RECENT = """
    SELECT o.workspace_id, count(*) AS times FROM workspace_operations o
    WHERE o.workspace_id = ANY($1::uuid[]) AND o.source = ANY($2::text[])
      AND o.kind IN ('start', 'restart')
      AND o.created_at > now() - make_interval(secs => $3)
      AND NOT EXISTS (
          SELECT FROM workspace_operations later
          WHERE later.workspace_id = o.workspace_id AND later.created_at > o.created_at
            AND later.kind IN ('start', 'restart') AND later.source <> ALL($2::text[])
      )
    GROUP BY o.workspace_id
"""

_LAST_STARTS = """
    SELECT w.id, o.state, extract(epoch FROM now() - o.started_at)::float AS age
    FROM unnest($1::uuid[]) AS w (id) CROSS JOIN LATERAL (
        SELECT state, started_at FROM workspace_operations
        WHERE workspace_id = w.id AND kind IN ('start', 'restart')
        ORDER BY created_at DESC, id DESC LIMIT 1
    ) o
"""


class LastStart(NamedTuple):
    """The newest start of a workspace.

    Args:
        age: seconds since a runner began with it; None when none has.
    """

    state: str
    age: float | None


async def busy(conn: Connection | Pool, workspace_ids: Collection[UUID]) -> set[UUID]:
    """Those of these workspaces for which an operation waits or runs."""
    return {row["workspace_id"] for row in await conn.fetch(_BUSY, list(workspace_ids))}


async def recent_starts(
    conn: Connection, workspace_ids: Collection[UUID], sources: Sequence[str], seconds: float
) -> dict[UUID, int]:
    """How often workspaces were started by these sources, lately and since another's start."""
    rows = await conn.fetch(_RECENT, list(workspace_ids), list(sources), seconds)
    return {row["workspace_id"]: row["times"] for row in rows}


async def last_starts(pool: Pool, workspace_ids: Collection[UUID]) -> dict[UUID, LastStart]:
    """The newest start of each workspace that has had one."""
    rows = await pool.fetch(_LAST_STARTS, list(workspace_ids))
    return {row["id"]: LastStart(row["state"], row["age"]) for row in rows}
