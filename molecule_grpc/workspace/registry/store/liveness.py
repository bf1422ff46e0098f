"""The SQL of silence: which workspaces were not heard of for too long."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.workspace.status import EVENTS, EXTERNAL_SILENT, SILENT
from molecule_grpc.workspace.store.moves import (
    KEEP_EVENTS,
    event_column,
    may,
    new_status,
)

# Both moves of silence leave the same states. A row that somebody else holds is being changed right
# now: the next pass looks at it again.
SWEEP = f"""
    WITH silent AS (
        SELECT id FROM workspaces w
        WHERE {may(SILENT)} AND id > $3
          AND coalesce(last_heartbeat_at, updated_at) < now() - make_interval(
              secs => CASE WHEN runtime = 'external' THEN $1::float ELSE $2::float END)
        ORDER BY id LIMIT $4
        FOR NO KEY UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE workspaces w SET
            updated_at = now(),
            status = CASE WHEN w.runtime = 'external' THEN '{EXTERNAL_SILENT.target}'
                          ELSE '{SILENT.target}' END::workspace_status
        FROM silent WHERE w.id = silent.id
        RETURNING {event_column(new_status({EXTERNAL_SILENT.target: "$5", SILENT.target: "$6"}))}
    ), kept AS ({KEEP_EVENTS})
    SELECT workspace_id FROM moved ORDER BY workspace_id
"""


EVENT_NAMES = (EVENTS[EXTERNAL_SILENT.target], EVENTS[SILENT.target])


async def sweep_silent(
    pool: Pool, external_after: float, other_after: float, *, after: UUID, limit: int
) -> list[UUID]:
    """Move at most `limit` workspaces that were not heard of for so many seconds.

    Args:
        external_after: seconds of silence of an external workspace, which then awaits its agent.
        other_after: seconds of silence of any other, which then is offline.
        after: only workspaces with a greater id are looked at.

    Returns: the workspaces that moved, by id.
    """
    rows = await pool.fetch(SWEEP, external_after, other_after, after, limit, *EVENT_NAMES)
    return [row["workspace_id"] for row in rows]
