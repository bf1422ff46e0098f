"""The SQL of live events about workspaces, many in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.events.names import EventType

_SHOW = """
    INSERT INTO live_events (id, event_type, organization_id, workspace_id, payload)
    SELECT gen_random_uuid(), shown.event_type, w.organization_id, w.id,
           CASE shown.event_type
               WHEN $3 THEN jsonb_build_object(
                   'current_task', w.current_task, 'active_tasks', w.active_tasks)
               ELSE jsonb_build_object(
                   'active_tasks', w.active_tasks, 'uptime_seconds', w.uptime_seconds)
           END
    FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS shown (event_type, id, ord)
    JOIN workspaces w USING (id)
    ORDER BY shown.ord
"""


async def publish(pool: Pool, shown: Sequence[tuple[EventType, UUID]]) -> None:
    """Write these live events in this order, each with the workspace as the row is now."""
    names, ids = [name for name, _ in shown], [workspace_id for _, workspace_id in shown]
    await pool.execute(_SHOW, names, ids, EventType.TASK_UPDATED)
