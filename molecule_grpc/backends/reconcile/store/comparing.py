"""The SQL of comparing engines with rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.backends.contract.workloads import Owned
from molecule_grpc.backends.reconcile.rules import Expected, Orphan
from molecule_grpc.db.pool import Connection, Pool

_UNFINISHED: Final = """
    EXISTS (
        SELECT FROM workspace_operations o
        WHERE o.workspace_id = {id} AND o.state IN ('pending', 'running')
    )
"""

_EXPECTED = f"""
    SELECT w.id, w.organization_id, w.backend, w.resource_id, w.status = 'removed',
           w.status IN ('paused', 'hibernated', 'failed'), {_UNFINISHED.format(id="w.id")}
    FROM workspaces w WHERE w.id = ANY($1::uuid[])
"""
_BUSY = """
    SELECT DISTINCT workspace_id FROM workspace_operations
    WHERE workspace_id = ANY($1::uuid[]) AND state IN ('pending', 'running')
"""

_RUNNING = """
    SELECT id, resource_id FROM workspaces
    WHERE backend = $1 AND backend <> '' AND resource_id <> '' AND status IN ('online', 'degraded')
      AND id > $2
    ORDER BY id LIMIT $3
"""

# Still as it was when the list was asked for, and started before that.
_HOLD_LOST = f"""
    SELECT w.id, w.organization_id FROM workspaces w
    JOIN unnest($1::uuid[], $2::text[]) AS e (id, resource_id) ON e.id = w.id
    WHERE w.backend = $3 AND w.resource_id = e.resource_id AND w.status IN ('online', 'degraded')
      AND NOT {_UNFINISHED.format(id="w.id")}
      AND NOT EXISTS (
          SELECT FROM workspace_operations o
          WHERE o.workspace_id = w.id AND o.ended_at >= $4
      )
    ORDER BY w.id FOR NO KEY UPDATE OF w
"""

# Only for the workload that the row expects: another start tells the address of its own.
_ADDRESSES = """
    UPDATE workspaces w SET url = e.url
    FROM unnest($2::uuid[], $3::text[], $4::text[]) AS e (id, resource_id, url)
    WHERE w.id = e.id AND w.backend = $1 AND w.resource_id = e.resource_id
      AND w.url IS DISTINCT FROM e.url
    RETURNING w.id
"""

_LEAVE = """
    INSERT INTO workspace_leftovers
        (backend, resource_id, workspace_id, organization_id, with_volumes)
    SELECT $1, r, w, o, v
    FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::boolean[]) AS n (r, w, o, v)
    ON CONFLICT DO NOTHING
    RETURNING resource_id
"""

# Of a workspace that runs again, under the same name.
_MOOT = """
    DELETE FROM workspace_leftovers l USING workspaces w
    WHERE w.id = l.workspace_id AND w.backend = l.backend AND w.resource_id = l.resource_id
      AND l.resource_id <> '' AND l.removed_at IS NULL
      AND w.status NOT IN ('removed', 'paused', 'hibernated', 'failed')
"""
_TAKE = f"""
    UPDATE workspace_leftovers l SET attempts = attempts + 1,
        not_before = now() + make_interval(secs => least(300, 30 * 2 ^ least(attempts, 10)))
    FROM (
        SELECT workspace_id, backend, resource_id, operation_id FROM workspace_leftovers
        WHERE removed_at IS NULL AND not_before <= now()
          AND NOT {_UNFINISHED.format(id="workspace_leftovers.workspace_id")}
        ORDER BY not_before LIMIT $1 FOR UPDATE SKIP LOCKED
    ) due
    WHERE (l.workspace_id, l.backend, l.resource_id, l.operation_id)
        = (due.workspace_id, due.backend, due.resource_id, due.operation_id)
    RETURNING l.backend, l.resource_id, l.workspace_id, l.with_volumes,
        nullif(l.operation_id, '00000000-0000-0000-0000-000000000000') AS operation_id, l.attempts
"""
_REMOVED = """
    WITH cleared AS (
        UPDATE workspaces SET resource_id = ''
        WHERE id = $1 AND backend = $2 AND resource_id = $3 AND $3 <> ''
    )
    UPDATE workspace_leftovers SET removed_at = now()
    WHERE workspace_id = $1 AND backend = $2 AND resource_id = $3 AND operation_id = $4
"""
_EXPECTS = """
    SELECT EXISTS (SELECT FROM workspaces WHERE id = $1 AND backend = $2 AND resource_id = $3)
"""
_FORGET = "DELETE FROM workspace_leftovers WHERE removed_at < now() - interval '10 minutes'"

# Measured by the event, and once: whoever clears the time counts it.
_ONLINE = """
    UPDATE workspaces w SET provisioning_started_at = NULL
    FROM (
        SELECT id, provisioning_started_at AS began FROM workspaces
        WHERE provisioning_started_at IS NOT NULL AND status IN ('online', 'degraded')
        LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
    ) due
    WHERE w.id = due.id
    RETURNING w.backend, extract(epoch FROM (
        SELECT min(e.created_at) FROM structure_events e
        WHERE e.workspace_id = w.id AND e.event_type = $2 AND e.created_at >= due.began
    ) - due.began)::float8
"""

_NO_OPERATION: Final = UUID(int=0)


class Leftover(NamedTuple):
    """A workload that is to be stopped.

    Args:
        resource_id: empty where only the operation is known, and for volumes without a workload.
        operation_id: what made it; None where the id is known.
        attempts: how often it was tried, this time included.
    """

    backend: str
    resource_id: str
    workspace_id: UUID
    with_volumes: bool
    operation_id: UUID | None
    attempts: int


async def now(pool: Pool) -> datetime:
    """The time of the database."""
    found: datetime = await pool.fetchval("SELECT now()")
    return found


async def expected(pool: Pool, workspace_ids: list[UUID]) -> dict[UUID, Expected]:
    """Expectations of workspaces' rows. A purged workspace is missing, unless it is busy."""
    rows = await pool.fetch(_EXPECTED, workspace_ids)
    found = {row[0]: Expected(*row[1:]) for row in rows}
    for row in await pool.fetch(_BUSY, [each for each in workspace_ids if each not in found]):
        found[row[0]] = Expected(UUID(int=0), "", "", removed=True, rests=False, busy=True)
    return found


async def running(pool: Pool, backend: str, after: UUID, limit: int) -> dict[UUID, str]:
    """Workspaces that run on a backend, and the id of each one's workload, in id order."""
    rows = await pool.fetch(_RUNNING, backend, after, limit)
    return {row["id"]: row["resource_id"] for row in rows}


async def hold_lost(
    conn: Connection, backend: str, lost: Sequence[tuple[UUID, str]], before: datetime
) -> dict[UUID, UUID]:
    """Lock workspaces whose row still expects the lost workload. Returns organisations by id."""
    ids, resources = zip(*lost, strict=True)
    rows = await conn.fetch(_HOLD_LOST, list(ids), list(resources), backend, before)
    return {row["id"]: row["organization_id"] for row in rows}


async def note_addresses(pool: Pool, backend: str, owned: Sequence[Owned]) -> int:
    """Store where agents are called that their engine has started again. How many have moved."""
    rows = await pool.fetch(
        _ADDRESSES,
        backend,
        [each.workspace_id for each in owned],
        [each.resource_id for each in owned],
        [each.url for each in owned],
    )
    return len(rows)


async def leave(pool: Pool, backend: str, found: Sequence[Orphan]) -> int:
    """Store what is to be stopped. How much of it was not known."""
    rows = await pool.fetch(
        _LEAVE,
        backend,
        [each.resource_id for each in found],
        [each.workspace_id for each in found],
        [each.organization_id for each in found],
        [each.with_volumes for each in found],
    )
    return len(rows)


async def take_leftovers(pool: Pool, limit: int) -> list[Leftover]:
    """What is to be stopped now. Others wait at least 30 s before they try the same."""
    await pool.execute(_MOOT)
    rows = await pool.fetch(_TAKE, limit)
    return [Leftover(*row) for row in rows]


async def removed(pool: Pool, leftover: Leftover) -> None:
    """Note that a leftover was removed from its engine."""
    await pool.execute(
        _REMOVED,
        leftover.workspace_id,
        leftover.backend,
        leftover.resource_id,
        leftover.operation_id or _NO_OPERATION,
    )


async def expects(pool: Pool, leftover: Leftover, resource_id: str) -> bool:
    """Whether the workspace's row names this workload as its own."""
    found: bool = await pool.fetchval(
        _EXPECTS, leftover.workspace_id, leftover.backend, resource_id
    )
    return found


async def forget_removed(pool: Pool) -> None:
    """Delete what is gone for long enough."""
    await pool.execute(_FORGET)


async def came_online(pool: Pool, event: str, limit: int) -> list[tuple[str, float | None]]:
    """Backend and seconds of provisioning of workspaces that are online now; each once."""
    return [(row[0], row[1]) for row in await pool.fetch(_ONLINE, limit, event)]
