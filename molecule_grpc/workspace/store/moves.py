"""The SQL from which every statement is made that changes a status, a card or a parent.

Such a statement has three parts: `moved`, an UPDATE or INSERT with its guard and with the columns
of `event_columns` in its RETURNING; `kept`, the event of each row that changed; and what the caller
reads. Change and event are thus stored together or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.workspace.status import EVENTS, Move, Status

# The value of the parameter that `status_event` names: status to event, as JSON.
EVENT_NAMES: Final = json.dumps(EVENTS)

# The event of each row of `moved` to which something happened.
KEEP_EVENTS: Final = """
    INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
    SELECT gen_random_uuid(), event_type, organization_id, workspace_id, payload
    FROM moved WHERE event_type IS NOT NULL
"""

_PAYLOAD = """jsonb_strip_nulls(jsonb_build_object(
        'name', new.name, 'tier', new.tier, 'runtime', new.runtime, 'status', new.status,
        'parent_id', new.parent_id,
        'error', CASE WHEN new.status IN ('failed', 'degraded') THEN new.last_sample_error END))"""


def may(move: Move, column: str = "w.status") -> str:
    """The guard of a move: whether a row is in a state that the move may leave."""
    return f"{column} IN ({_states(move.sources)})"


def status_event(names: str, otherwise: str = "") -> str:
    """The event of a new status; where the status stays, `otherwise` or NULL.

    Args:
        names: the parameter that carries `EVENT_NAMES`, such as `$3`.
        otherwise: further `WHEN … THEN …`.
    """
    return (
        "CASE WHEN old.status IS DISTINCT FROM new.status"
        f" THEN {names}::jsonb ->> new.status::text {otherwise} END"
    )


def change_event(column: str, event: str) -> str:
    """`WHEN … THEN …`: the event of a new value in a column.

    Args:
        event: the parameter that carries the event's name, such as `$3`.
    """
    return f"WHEN old.{column} IS DISTINCT FROM new.{column} THEN {event}::text"


def event_columns(event: str) -> str:
    """What `KEEP_EVENTS` needs of the RETURNING of `moved`.

    Args:
        event: the event's name in SQL, over `old` and `new`; NULL where nothing happened.
    """
    return f"""new.id AS workspace_id, new.organization_id, {event} AS event_type,
        CASE WHEN {event} IS NOT NULL THEN {_PAYLOAD} END AS payload"""


def move_statement(move: Move, also: str = "") -> str:
    """Make the move for those of $1 that it may leave, in id order; $2 is `EVENT_NAMES`.

    Returns the ids that moved.

    Args:
        also: what else the move writes: `, column = value` for each.
    """
    return f"""
    WITH held AS (
        SELECT id FROM workspaces w WHERE id = ANY($1::uuid[]) AND {may(move)}
        ORDER BY id FOR NO KEY UPDATE
    ), moved AS (
        UPDATE workspaces w SET status = '{move.target}', updated_at = now(){also}
        FROM held WHERE w.id = held.id AND {may(move)}
        RETURNING {event_columns(status_event("$2"))}
    ), kept AS ({KEEP_EVENTS})
    SELECT workspace_id FROM moved
"""


async def move(conn: Connection, change: Move, workspace_ids: Collection[UUID]) -> list[UUID]:
    """Make a move for those of these workspaces that it may leave. Returns which moved.

    Raises:
        ValueError: the move is a failure: `fail` takes the reason with it.
    """
    if change.target is Status.FAILED:
        raise ValueError("a failure needs a reason")
    rows = await conn.fetch(move_statement(change), list(workspace_ids), EVENT_NAMES)
    return [row["workspace_id"] for row in rows]


async def fail(
    conn: Connection, change: Move, workspace_ids: Collection[UUID], reason: str
) -> list[UUID]:
    """Make the move of a failure, and store why in the same statement. Returns which moved.

    Raises:
        ValueError: the move is none of a failure, or there is no reason.
    """
    if change.target is not Status.FAILED or not reason.strip():
        raise ValueError("a failure needs a reason, and nothing else has one")
    statement = move_statement(change, also=", last_sample_error = $3")
    rows = await conn.fetch(statement, list(workspace_ids), EVENT_NAMES, reason)
    return [row["workspace_id"] for row in rows]


def _states(states: Collection[Status]) -> str:
    return ", ".join(f"'{state}'" for state in Status if state in states)
