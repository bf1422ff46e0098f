"""The SQL of what workspaces show of themselves, many in one statement."""

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
    """Show workspaces as they are now, to whoever looks, in this order."""
    await pool.execute(
        _SHOW, [kind for kind, _ in shown], [each for _, each in shown], EventType.TASK_UPDATED
    )
