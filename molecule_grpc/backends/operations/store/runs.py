"""The SQL of running operations: taking them, keeping them, choosing a backend, ending them."""

from __future__ import annotations

from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.backends.contract.workloads import Started
from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.backends.operations.store.rows import read_options
from molecule_grpc.backends.operations.values import Ending, Operation
from molecule_grpc.db.pool import Connection, Pool

# One worker at a time counts what runs and takes more.
_CLAIM_LOCK: Final = 0x6D6F6C6F

_ANY_DUE = """
    SELECT EXISTS (
        SELECT FROM workspace_operations WHERE state = 'pending' AND not_before <= now()
    ) OR EXISTS (
        SELECT FROM workspace_operations WHERE state = 'running' AND lease_until < now()
    )
"""

# The backend and resource of operation `o`'s workspace, from the workspace's row; of a purged
# workspace, from its last operation.
_OPERATION = """
    o.id, o.workspace_id, o.organization_id, o.kind, o.source, o.backend, o.attempt,
    o.cancel_requested, o.options, o.started_at,
    coalesce(nullif(w.backend, ''), last.backend, '') AS runs_on,
    CASE WHEN w.backend <> '' THEN w.resource_id ELSE coalesce(last.resource_id, '') END
        AS resource_id
"""
_WHERE_IT_RUNS = """
    LEFT JOIN workspaces w ON w.id = o.workspace_id
    LEFT JOIN LATERAL (
        SELECT p.backend, p.resource_id FROM workspace_operations p
        WHERE p.workspace_id = o.workspace_id AND p.backend <> '' AND p.id <> o.id
        ORDER BY p.created_at DESC, p.id DESC LIMIT 1
    ) last ON w.id IS NULL
"""

# Starts are dealt out one to each organisation in turn, counting those that run; so are stops.
_CLAIM = f"""
    WITH busy AS MATERIALIZED (
        SELECT workspace_id, organization_id, kind FROM workspace_operations
        WHERE state = 'running'
    ), running AS (
        SELECT organization_id, count(*) AS starts FROM busy
        WHERE kind IN ('start', 'restart') GROUP BY organization_id
    ), due AS (
        SELECT o.id, o.created_at, o.kind IN ('start', 'restart') AS starts,
               row_number() OVER (
                   PARTITION BY o.organization_id, o.kind IN ('start', 'restart')
                   ORDER BY o.created_at, o.id
               ) + CASE WHEN o.kind IN ('start', 'restart') THEN coalesce(r.starts, 0) ELSE 0 END
                   AS turn
        FROM workspace_operations o LEFT JOIN running r USING (organization_id)
        WHERE o.state = 'pending' AND o.not_before <= now()
          AND o.workspace_id NOT IN (SELECT workspace_id FROM busy)
          AND ($3 = 0 OR o.kind NOT IN ('start', 'restart')
               OR (SELECT coalesce(sum(starts), 0) FROM running) < $3)
    ), chosen AS (
        (SELECT id FROM due WHERE starts AND ($4 = 0 OR turn <= $4) ORDER BY turn, created_at, id
         LIMIT CASE WHEN $3 = 0 THEN $5
                    ELSE least($5, greatest(0, $3 - (SELECT coalesce(sum(starts), 0) FROM running)))
               END)
        UNION ALL
        (SELECT id FROM due WHERE NOT starts ORDER BY turn, created_at, id LIMIT $6)
    ), taken AS (
        UPDATE workspace_operations SET state = 'running', owner = $1, attempt = attempt + 1,
            lease_until = now() + make_interval(secs => $2), cancel_requested = false,
            started_at = coalesce(started_at, now())
        WHERE id IN (
            SELECT id FROM workspace_operations WHERE id IN (SELECT id FROM chosen)
              AND state = 'pending' FOR UPDATE SKIP LOCKED
        )
        RETURNING *
    )
    SELECT {_OPERATION} FROM taken o {_WHERE_IT_RUNS}
"""

_ADOPT = f"""
    WITH taken AS (
        UPDATE workspace_operations SET owner = $1, attempt = attempt + 1,
            lease_until = now() + make_interval(secs => $2)
        WHERE id IN (
            SELECT id FROM workspace_operations WHERE state = 'running' AND lease_until < now()
            ORDER BY lease_until LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        RETURNING *
    )
    SELECT {_OPERATION} FROM taken o {_WHERE_IT_RUNS}
"""

_FIND = f"""
    SELECT {_OPERATION} FROM workspace_operations o {_WHERE_IT_RUNS}
    WHERE o.id = $1 AND o.started_at IS NOT NULL
"""

# In id order, like a request to cancel, which locks the same rows.
_RENEW = """
    WITH held AS (
        SELECT id FROM workspace_operations
        WHERE id = ANY($3::uuid[]) AND owner = $1 AND state = 'running' ORDER BY id FOR UPDATE
    )
    UPDATE workspace_operations o SET lease_until = now() + make_interval(secs => $2)
    FROM held WHERE o.id = held.id RETURNING o.id, o.cancel_requested
"""

_RELEASE = """
    UPDATE workspace_operations SET lease_until = now()
    WHERE id = ANY($2::uuid[]) AND owner = $1 AND state = 'running'
"""

_HOLD_WORKSPACE = "SELECT FROM workspaces WHERE id = $1 FOR NO KEY UPDATE"

_CHOOSE = """
    UPDATE workspace_operations SET backend = $3
    WHERE id = $2 AND owner = $1 AND state = 'running' RETURNING true
"""
_RUNS_ON = "UPDATE workspaces SET backend = $2, resource_id = '' WHERE id = $1"
_LEAVE = """
    INSERT INTO workspace_leftovers (backend, resource_id, workspace_id, organization_id)
    VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""

_LEAVE_UNKNOWN = """
    INSERT INTO workspace_leftovers
        (backend, resource_id, operation_id, workspace_id, organization_id, not_before)
    VALUES ($1, '', $2, $3, $4, now() + make_interval(secs => $5)) ON CONFLICT DO NOTHING
"""

_END = """
    UPDATE workspace_operations SET state = $3, reason = $4, message = $5, ended_at = now(),
        lease_until = NULL, backend = CASE WHEN backend = '' THEN $6 ELSE backend END,
        resource_id = CASE WHEN $7 = '' THEN resource_id ELSE $7 END
    WHERE id = $2 AND owner = $1 AND state = 'running' RETURNING true
"""

# Not where another waits already: that one takes this one's place.
_AGAIN = """
    UPDATE workspace_operations o SET state = 'pending', lease_until = NULL, reason = $3,
        message = $4, not_before = now() + make_interval(secs => $5)
    WHERE id = $2 AND owner = $1 AND state = 'running' AND NOT EXISTS (
        SELECT FROM workspace_operations p
        WHERE p.workspace_id = o.workspace_id AND p.state = 'pending'
    ) RETURNING true
"""

_STARTED = """
    UPDATE workspaces SET backend = $2, resource_id = $3, url = coalesce(nullif($4, ''), url),
        runtime_image_digest = nullif($5, '') WHERE id = $1
"""
_NOTHING_RUNS = "UPDATE workspaces SET resource_id = '' WHERE id = $1 AND resource_id <> ''"
_NOTHING_IS_KEPT = """
    UPDATE workspaces SET resource_id = '', backend = '' WHERE id = $1 AND backend <> ''
"""


class Room(NamedTuple):
    """How much a runner may take.

    Args:
        starts: at once of all workers; 0 for no limit.
        starts_of_organization: of one organisation; 0 for no limit.
        starts_here, stops_here: that this runner takes now.
    """

    starts: int
    starts_of_organization: int
    starts_here: int
    stops_here: int


async def anything_due(pool: Pool) -> bool:
    """Whether there is anything to claim or to adopt."""
    found: bool = await pool.fetchval(_ANY_DUE)
    return found


async def claim(pool: Pool, owner: str, lease: float, room: Room) -> list[Operation]:
    """Take operations that wait, at most as many as there is room for."""
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _CLAIM_LOCK)
        return _operations(await conn.fetch(_CLAIM, owner, lease, *room))


async def adopt(pool: Pool, owner: str, lease: float, limit: int) -> list[Operation]:
    """Take over operations whose runner was silent for longer than its lease."""
    return _operations(await pool.fetch(_ADOPT, owner, lease, limit))


async def find(pool: Pool, operation_id: UUID) -> Operation | None:
    """An operation that was begun."""
    return next(iter(_operations(await pool.fetch(_FIND, operation_id))), None)


async def renew(pool: Pool, owner: str, lease: float, ids: list[UUID]) -> dict[UUID, bool]:
    """Keep operations. By id of those that are still ours, whether they shall be cancelled."""
    rows = await pool.fetch(_RENEW, owner, lease, ids)
    return {row["id"]: row["cancel_requested"] for row in rows}


async def release(pool: Pool, owner: str, ids: list[UUID]) -> None:
    """Let others take over these operations at once."""
    await pool.execute(_RELEASE, owner, ids)


async def choose(pool: Pool, owner: str, operation: Operation, backend: str, *, left: bool) -> bool:
    """Note where the workspace is started, before it is. False where the operation is not ours.

    Args:
        left: whether what ran before could not be stopped: a later pass stops it.
    """
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(_HOLD_WORKSPACE, operation.workspace_id)
        if not await conn.fetchval(_CHOOSE, owner, operation.id, backend):
            return False
        if left and operation.resource_id:
            await conn.execute(
                _LEAVE,
                operation.runs_on,
                operation.resource_id,
                operation.workspace_id,
                operation.organization_id,
            )
        await conn.execute(_RUNS_ON, operation.workspace_id, backend)
    return True


async def leave(pool: Pool, operation: Operation, backend: str, *, delay: float) -> None:
    """Note that an operation may have left something, whose id is not known."""
    await pool.execute(
        _LEAVE_UNKNOWN,
        backend,
        operation.id,
        operation.workspace_id,
        operation.organization_id,
        delay,
    )


async def end(conn: Connection, owner: str, operation: Operation, ending: Ending) -> bool:
    """End an operation, or let it wait for another try. False where it is not ours any more.

    The workspace is locked first, as whoever asks for an operation does.
    """
    await conn.execute(_HOLD_WORKSPACE, operation.workspace_id)
    if ending.again_after is not None and await _again(conn, owner, operation, ending):
        return True
    started = ending.started
    return bool(
        await conn.fetchval(
            _END,
            owner,
            operation.id,
            ending.state,
            ending.reason,
            ending.message,
            operation.runs_on,
            started.resource_id if started else "",
        )
    )


async def note_start(
    conn: Connection, operation: Operation, started: Started, backend: str
) -> None:
    """Write what runs now to the workspace's row."""
    await conn.execute(_STARTED, operation.workspace_id, backend, *started)


async def note_stop(conn: Connection, operation: Operation) -> None:
    """Write to the workspace's row that nothing runs, and after a removal that nothing is kept."""
    removed = operation.kind is Kind.REMOVE
    await conn.execute(_NOTHING_IS_KEPT if removed else _NOTHING_RUNS, operation.workspace_id)


async def _again(conn: Connection, owner: str, operation: Operation, ending: Ending) -> bool:
    try:
        async with conn.transaction():
            return bool(
                await conn.fetchval(
                    _AGAIN,
                    owner,
                    operation.id,
                    ending.reason,
                    ending.message,
                    ending.again_after,
                )
            )
    except asyncpg.UniqueViolationError:  # Of a purged workspace, which nobody can lock.
        return False


def _operations(rows: list[asyncpg.Record]) -> list[Operation]:
    return [
        Operation(**{**row, "kind": Kind(row["kind"]), "options": read_options(row["options"])})
        for row in rows
    ]
