"""The SQL of starting and stopping workspaces: whom a verb concerns, and which moves it makes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import Managed
from molecule_grpc.workspace.rules import MAX_DEPTH
from molecule_grpc.workspace.status import (
    AUTO_RESTARTED,
    EVENTS,
    HIBERNATE,
    PAUSED,
    RESTARTED,
    RESUMED,
    RESUMED_EXTERNAL,
    STOPPED,
    WOKEN,
    Move,
)
from molecule_grpc.workspace.store.moves import move_statement

COLUMNS: Final = """
    organization_id, name, runtime, status::text AS status, backend, resource_id, active_tasks
"""
_TOLD: Final = f"workspace_id AS id, {COLUMNS}"

# A stopped agent has no URL. Its delivery mode, push or poll, is kept.
_STOPPED_COLUMNS: Final = """,
    delivery_mode = coalesce(w.delivery_mode, CASE WHEN w.url <> '' THEN w.mode_in_force END),
    url = '', active_tasks = 0, current_task = ''"""
_STARTING_COLUMNS: Final = f"""{_STOPPED_COLUMNS},
    provisioning_started_at = now(), last_active_at = now()"""
# A failure of the past says nothing of a start that somebody has asked for.
_ASKED_COLUMNS: Final = f"{_STARTING_COLUMNS}, last_sample_error = NULL"
_CONTEXT_COLUMN: Final = """,
    restart_context = jsonb_strip_nulls(jsonb_build_object(
        'restarted_at', now(), 'previous_session_end', w.last_heartbeat_at))"""

_MANAGED: Final = "w.runtime <> 'external'"
UNDER_PAUSED: Final = f"""EXISTS (
    WITH RECURSIVE up (id, steps) AS (
        SELECT w.parent_id, 1
        UNION ALL
        SELECT a.parent_id, up.steps + 1 FROM up JOIN workspaces a ON a.id = up.id
        WHERE a.status <> '{PAUSED.target}' AND up.steps < {MAX_DEPTH}
    )
    SELECT FROM up JOIN workspaces a ON a.id = up.id WHERE a.status = '{PAUSED.target}'
)"""
# The last task, message or terminal; what an agent has sent counts as well.
LAST_ACTIVE: Final = "greatest(w.last_active_at, w.last_outbound_at)"
IDLE: Final = f"""(
    w.hibernation_idle_minutes > 0 AND w.active_tasks = 0 AND w.backend <> ''
    AND {LAST_ACTIVE} < now() - make_interval(mins => w.hibernation_idle_minutes)
)"""


def _statement(move: Move, also: str = "", only: str = "true") -> str:
    return move_statement(move, also, only=only, told=_TOLD)


_STATEMENTS: Final = {
    RESTARTED: _statement(RESTARTED, _ASKED_COLUMNS + _CONTEXT_COLUMN, _MANAGED),
    AUTO_RESTARTED: _statement(
        AUTO_RESTARTED, _STARTING_COLUMNS + _CONTEXT_COLUMN, f"{_MANAGED} AND NOT {UNDER_PAUSED}"
    ),
    RESUMED: _statement(RESUMED, _ASKED_COLUMNS, _MANAGED),
    RESUMED_EXTERNAL: _statement(RESUMED_EXTERNAL, only=f"NOT ({_MANAGED})"),
    WOKEN: _statement(WOKEN, _ASKED_COLUMNS, f"{_MANAGED} AND NOT {UNDER_PAUSED}"),
    STOPPED: _statement(STOPPED, _STOPPED_COLUMNS),
}
_HIBERNATE: Final = _statement(
    HIBERNATE, ", asleep_since = now()", f"{_MANAGED} AND ($3 OR w.active_tasks = 0)"
)
_HIBERNATE_IDLE: Final = _statement(HIBERNATE, ", asleep_since = now()", f"{_MANAGED} AND {IDLE}")
# The URL of an external agent is its own, and it is not stopped.
_PAUSE: Final = (
    _statement(PAUSED, _STOPPED_COLUMNS, _MANAGED),
    _statement(PAUSED, only=f"NOT ({_MANAGED})"),
)
_BEGIN_AGAIN: Final = f"""
    UPDATE workspaces w SET updated_at = now(){_ASKED_COLUMNS}{_CONTEXT_COLUMN}
    WHERE id = $1 AND status = '{RESTARTED.target}'
"""

_HOLD: Final = f"""
    SELECT id, {COLUMNS} FROM workspaces w
    WHERE id = $1 AND status <> 'removed' AND ($2::uuid IS NULL OR organization_id = $2)
    FOR NO KEY UPDATE
"""
_LOOK: Final = f"""
    SELECT id, {COLUMNS} FROM workspaces w WHERE id = $1 AND status <> 'removed'
"""
_HOLD_ALL: Final = f"""
    SELECT id, {COLUMNS} FROM workspaces w
    WHERE id = ANY($1::uuid[]) AND status <> 'removed' ORDER BY id FOR NO KEY UPDATE
"""
_PAUSED_ABOVE: Final = f"""
    WITH RECURSIVE up (id, steps) AS (
        SELECT parent_id, 1 FROM workspaces WHERE id = $1
        UNION ALL
        SELECT a.parent_id, up.steps + 1 FROM up JOIN workspaces a ON a.id = up.id
        WHERE up.steps < {MAX_DEPTH}
    )
    SELECT a.name FROM up JOIN workspaces a ON a.id = up.id
    WHERE a.status = '{PAUSED.target}' ORDER BY up.steps LIMIT 1
"""
# UNION, not UNION ALL: ends even where the rows form a ring.
_SUBTREE: Final = """
    WITH RECURSIVE down (id) AS (
        VALUES ($1::uuid)
        UNION
        SELECT w.id FROM down JOIN workspaces w ON w.parent_id = down.id
        WHERE w.status <> 'removed'
    )
    SELECT id FROM down ORDER BY id
"""
_TOUCH_ACTIVE: Final = """
    UPDATE workspaces w SET last_active_at = greatest(w.last_active_at, a.at)
    FROM (
        SELECT w.id, a.at FROM unnest($1::uuid[], $2::timestamptz[]) AS a (id, at)
        JOIN workspaces w USING (id) WHERE w.last_active_at < a.at
        ORDER BY w.id FOR NO KEY UPDATE OF w
    ) a
    WHERE w.id = a.id
"""
_TAKE_CONTEXT: Final = """
    UPDATE workspaces SET restart_context = NULL
    WHERE id = $1 AND restart_context IS NOT NULL
    RETURNING old.restart_context::text
"""


async def look(pool: Pool, workspace_id: UUID) -> Managed | None:
    """A live workspace, without a lock."""
    row = await pool.fetchrow(_LOOK, workspace_id)
    return None if row is None else Managed(*row)


async def hold(conn: Connection, workspace_id: UUID, within: UUID | None) -> Managed | None:
    """Lock a live workspace until the transaction ends; None when it is removed or missing.

    Args:
        within: the only organisation that the workspace may be of; None for any.
    """
    row = await conn.fetchrow(_HOLD, workspace_id, within)
    return None if row is None else Managed(*row)


async def hold_all(conn: Connection, workspace_ids: Collection[UUID]) -> list[Managed]:
    """Lock live workspaces, in id order, until the transaction ends."""
    return [Managed(*row) for row in await conn.fetch(_HOLD_ALL, list(workspace_ids))]


async def paused_above(conn: Connection, workspace_id: UUID) -> str | None:
    """The name of the nearest ancestor that is paused; None when none is."""
    found: str | None = await conn.fetchval(_PAUSED_ABOVE, workspace_id)
    return found


async def subtree(conn: Connection, workspace_id: UUID) -> list[UUID]:
    """A workspace and its live descendants, in id order."""
    return [row["id"] for row in await conn.fetch(_SUBTREE, workspace_id)]


async def move(conn: Connection, change: Move, workspace_ids: Collection[UUID]) -> list[Managed]:
    """Make one of the moves that need nothing but the row. Returns the rows after the move.

    Raises:
        KeyError: the move has a function of its own, or is none of a verb.
    """
    rows = await conn.fetch(_STATEMENTS[change], list(workspace_ids), EVENTS[change.target])
    return [Managed(*row) for row in rows]


async def begin_again(conn: Connection, workspace_id: UUID) -> None:
    """A workspace that is being started is started anew: its time to register begins now."""
    await conn.execute(_BEGIN_AGAIN, workspace_id)


async def hibernate(
    conn: Connection, workspace_ids: Collection[UUID], *, force: bool
) -> list[Managed]:
    """Claim workspaces without tasks for hibernation; with `force` also those with some."""
    event = EVENTS[HIBERNATE.target]
    rows = await conn.fetch(_HIBERNATE, list(workspace_ids), event, force)
    return [Managed(*row) for row in rows]


async def hibernate_idle(conn: Connection, workspace_ids: Collection[UUID]) -> list[Managed]:
    """Claim those that are idle for as long as their own setting says."""
    rows = await conn.fetch(_HIBERNATE_IDLE, list(workspace_ids), EVENTS[HIBERNATE.target])
    return [Managed(*row) for row in rows]


async def pause(conn: Connection, workspace_ids: Collection[UUID]) -> list[Managed]:
    """Pause. Returns what moved."""
    moved: list[Managed] = []
    for statement in _PAUSE:
        rows = await conn.fetch(statement, list(workspace_ids), EVENTS[PAUSED.target])
        moved += [Managed(*row) for row in rows]
    return moved


async def touch_active(conn: Connection | Pool, seen: Sequence[tuple[UUID, datetime]]) -> None:
    """Note when workspaces were last active, where that is later than what is known."""
    if seen:
        ids, moments = zip(*seen, strict=True)
        await conn.execute(_TOUCH_ACTIVE, list(ids), list(moments))


async def take_context(pool: Pool, workspace_id: UUID) -> str | None:
    """What a restarted agent is to be told, as JSON text; None for nothing, and from then on."""
    found: str | None = await pool.fetchval(_TAKE_CONTEXT, workspace_id)
    return found
