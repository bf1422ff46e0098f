"""The SQL from which every statement is made that changes a status, a card or a parent.

Such a statement has three parts: `moved`, an UPDATE or INSERT whose RETURNING begins
with `event_column`; `kept`, which stores the event of each row that changed; and what the caller
reads. The change and its event are thus stored together or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.workspace.status import EVENTS, Move, Status

# The event of each row of `moved` that changed.
KEEP_EVENTS: Final = """
    INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
    SELECT gen_random_uuid(), event ->> 'type', (event ->> 'organization_id')::uuid, workspace_id,
           event -> 'payload'
    FROM moved WHERE event IS NOT NULL
"""

_PAYLOAD = """jsonb_strip_nulls(jsonb_build_object(
            'name', new.name, 'tier', new.tier, 'runtime', new.runtime, 'status', new.status,
            'parent_id', new.parent_id,
            'error', CASE WHEN new.status IN ('failed', 'degraded')
                          THEN new.last_sample_error END))"""


class ToldChange(NamedTuple):
    """A change that is told by an event. Both parts are SQL over `old` and `new`.

    Args:
        happened: whether a row changed so.
        event: the name of the event.
    """

    happened: str
    event: str


def may(move: Move, column: str = "w.status") -> str:
    """The guard of a move: whether a row is in a state that the move may leave."""
    return f"{column} IN ({_states(move.sources)})"


def new_status(names: Mapping[Status, str]) -> ToldChange:
    """The change of a status.

    Args:
        names: by each state that the statement may lead to, the parameter with its event's name.
    """
    *cases, (_, last) = names.items()
    event = f"{last}::text"
    if cases:
        whens = " ".join(f"WHEN '{state}' THEN {name}::text" for state, name in cases)
        event = f"CASE new.status {whens} ELSE {event} END"
    return ToldChange("old.status IS DISTINCT FROM new.status", event)


def new_value(column: str, name: str) -> ToldChange:
    """The change of a column; `name` is the parameter with the event's name."""
    return ToldChange(f"old.{column} IS DISTINCT FROM new.{column}", f"{name}::text")


def event_column(*changes: ToldChange, more: str = "") -> str:
    """What `KEEP_EVENTS` needs of the RETURNING of `moved`: the first of these changes, or NULL.

    Where nothing happened neither the name nor the payload is made: most heartbeats change nothing.

    Args:
        more: what else the payload has: ` || ` and an object.
    """
    happened = " OR ".join(change.happened for change in changes)
    event = changes[0].event
    if len(changes) > 1:
        whens = " ".join(f"WHEN {change.happened} THEN {change.event}" for change in changes)
        event = f"CASE {whens} END"
    return f"""CASE WHEN {happened} THEN jsonb_build_object(
            'type', {event}, 'organization_id', new.organization_id, 'payload', {_PAYLOAD}{more}
        ) END AS event, new.id AS workspace_id"""


def move_statement(
    move: Move,
    also: str = "",
    *,
    only: str = "true",
    told: str = "workspace_id",
    more: str = "",
) -> str:
    """Make the move for those of $1 that it may leave, in id order; $2 is the event's name.

    Returns what is `told` of those that moved.

    Args:
        also: what else the move writes: `, column = value` for each.
        only: a further guard over the row `w`.
        told: columns of the moved rows, beside `workspace_id` those of `workspaces`.
        more: what else the event's payload has: ` || ` and an object.
    """
    guard = f"{may(move)} AND {only}"
    columns = "" if told == "workspace_id" else ", new.*"
    return f"""
    WITH held AS (
        SELECT id FROM workspaces w WHERE id = ANY($1::uuid[]) AND {guard}
        ORDER BY id FOR NO KEY UPDATE
    ), moved AS (
        UPDATE workspaces w SET status = '{move.target}', updated_at = now(){also}
        FROM held WHERE w.id = held.id AND {guard}
        RETURNING {event_column(new_status({move.target: "$2"}), more=more)}{columns}
    ), kept AS ({KEEP_EVENTS})
    SELECT {told} FROM moved
"""


async def move(conn: Connection, change: Move, workspace_ids: Collection[UUID]) -> list[UUID]:
    """Make a move for those of these workspaces that it may leave. Returns which moved.

    Raises:
        ValueError: the move is a failure: `fail` takes the reason with it.
    """
    if change.target is Status.FAILED:
        raise ValueError("a failure needs a reason")
    rows = await conn.fetch(move_statement(change), list(workspace_ids), EVENTS[change.target])
    return [row["workspace_id"] for row in rows]


async def fail(
    conn: Connection,
    change: Move,
    workspace_ids: Collection[UUID],
    reason: str,
    missing: Sequence[str] = (),
) -> list[UUID]:
    """Make the move of a failure, and store why in the same statement. Returns which moved.

    Args:
        missing: variables for want of which it failed, for the event.

    Raises:
        ValueError: the move is none of a failure, or there is no reason.
    """
    if change.target is not Status.FAILED or not reason.strip():
        raise ValueError("a failure needs a reason, and nothing else has one")
    statement = move_statement(
        change,
        also=", last_sample_error = $3",
        more=" || jsonb_strip_nulls(jsonb_build_object('missing', nullif($4::text[], '{}')))",
    )
    event = EVENTS[change.target]
    rows = await conn.fetch(statement, list(workspace_ids), event, reason, list(missing))
    return [row["workspace_id"] for row in rows]


def _states(states: Collection[Status]) -> str:
    return ", ".join(f"'{state}'" for state in Status if state in states)
