"""The SQL that moves delegations, and all that announces it.

The statement locks the rows first, decides from the locked rows, and then writes. So every decision
stands in one place, under a name, and everything after it reads the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db import rows
from molecule_grpc.db.pool import Connection, Writer
from molecule_grpc.delegation.ledger.rules import Status
from molecule_grpc.delegation.ledger.store.fragments import PUSHED, SENDER, cut
from molecule_grpc.delegation.ledger.store.plan import PLAN
from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.delegation.record.store.entries import (
    APPEND,
    PLACED_COLUMNS,
    Placed,
    placed,
)
from molecule_grpc.events.names import EventType


class Move(NamedTuple):
    """A step of a delegation. The fields are the columns of the row on its way.

    `party_id` is one of its two parties, and names it with the id: another organisation may have a
    delegation of the same id. The platform moves in the name of either, and may name the
    delegation's organisation: a party that was purged may have another one's id by now.
    """

    delegation_id: str
    party_id: UUID
    to: str
    result_preview: str | None
    result: str | None
    truncated: bool
    error_detail: str | None
    failure_reason: str | None
    summary: str
    response_body: str
    bytes: int
    audit_id: UUID
    item_id: UUID
    # Guards of the sweeper: only past the deadline; only when the last beat is older than this.
    overdue: bool = False
    beat_before: datetime | None = None
    note: str | None = None
    percent: int | None = None
    # Only the caller may make this move.
    by_caller: bool = False
    # A failure that leads to no other attempt, whatever the caller allowed.
    final: bool = False
    # How a result came, where no party reported it.
    via: str | None = None
    of_organization: UUID | None = None


class Moved(NamedTuple):
    """What became of a move.

    Args:
        moved: whether it was made.
        retried: whether a failure led to another attempt instead of an end.
        late: whether the text reached the caller's inbox although the ledger had closed.
        found: whether the delegation exists and its party may make the move.
        before: its status when the move was tried.
        same: whether the ledger holds just what the move says.
        early: whether it is a failure, and the next attempt is still to be handed over.
        placed: the caller's inbox item, when the move ended the delegation.
    """

    moved: bool
    retried: bool
    late: bool
    found: bool
    caller_id: UUID | None
    callee_id: UUID | None
    before: str | None
    same: bool
    early: bool
    placed: Placed | None = None


# The event of a move to each status. A failure that leads to another attempt is news of progress.
_EVENTS: Final = {
    Status.IN_PROGRESS: EventType.DELEGATION_STATUS,
    Status.COMPLETED: EventType.DELEGATION_COMPLETE,
    Status.FAILED: EventType.DELEGATION_FAILED,
    Status.STUCK: EventType.DELEGATION_STUCK,
}

# The steps of one move, in the order in which its rows enter the records.
_AUDIT, _RESULT, _CANCEL, _ATTEMPT = 0, 1, 2, 3

_CHANGE = f"""
    changed AS (
        UPDATE delegations d SET
            -- Another attempt leaves the status: it only ever moves forward.
            status = CASE WHEN p.again THEN d.status ELSE p.to_status END,
            retry_count = d.retry_count + p.again::int,
            attempt_due = CASE WHEN p.again THEN now() + make_interval(secs => p.pause)
                               ELSE d.attempt_due END,
            -- The next attempt has shown no beat yet: the silence of the previous one is not its.
            last_heartbeat = CASE WHEN p.again THEN NULL
                                  WHEN p.to_status = 'in_progress' THEN now()
                                  ELSE d.last_heartbeat END,
            result_preview = p.result_preview,
            result = p.result,
            truncated = p.truncated,
            error_detail = p.error_detail,
            failure_reason = CASE WHEN NOT p.again THEN p.failure_reason END,
            progress_note = coalesce(p.note, d.progress_note),
            progress_percent = coalesce(p.percent, d.progress_percent),
            updated_at = now()
        FROM plan p
        WHERE p.moves AND d.delegation_id = p.delegation_id
          -- No condition for an index: while the table is small, every index of the organisation
          -- looks as good as the primary key, and the plan is kept while the table grows.
          AND (d.organization_id = p.organization_id) IS TRUE
    ),
    tallied AS (
        INSERT INTO delegation_tallies (organization_id, status, number)
        SELECT organization_id, to_status, count(*) FROM plan WHERE ends GROUP BY 1, 2
    ),
    -- Another attempt: the same task, later, by whichever way the callee is reached now.
    attempts AS (
        SELECT p.*, {PUSHED} AS pushed
        FROM plan p JOIN workspaces w
            ON w.id = p.callee_id AND w.organization_id = p.organization_id
        WHERE p.again
    ),
    -- The task for an agent with a URL, under a message id of its own.
    outbox AS (
        INSERT INTO a2a_queue (
            id, workspace_id, caller_id, body, method, idempotency_key, delegation_id,
            next_attempt_at, expires_at
        )
        SELECT gen_random_uuid(), callee_id, {SENDER},
               jsonb_set(jsonb_set(task_body, '{{id}}', to_jsonb(m.id)),
                         '{{params,message,messageId}}', to_jsonb(m.id)),
               'message/send', m.id, delegation_id, now() + make_interval(secs => pause), deadline
        FROM attempts CROSS JOIN LATERAL (SELECT delegation_id || '#' || attempt AS id) m
        WHERE pushed
    )
"""

_ANNOUNCE = f"""
    -- A beat is no news after the first one.
    happened AS (
        INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
        SELECT audit_id, CASE WHEN again THEN $1::text ELSE event_type END,
               organization_id, caller_id,
               jsonb_strip_nulls(jsonb_build_object(
                   'delegation_id', delegation_id, 'target_id', callee_id,
                   'status', CASE WHEN again THEN 'retrying' ELSE to_status END,
                   'response_preview', {cut("result_preview", 200)},
                   'error', error_detail, 'via', via))
        FROM plan WHERE moves AND before <> to_status
    )
"""

_ENTRIES = f"""
    announced AS (
        -- The caller's audit row.
        SELECT ord, {_AUDIT} AS step, caller_id AS workspace_id, audit_id AS activity_id,
               'delegation' AS activity_type, 'delegate_result' AS method,
               caller_id AS source_id, callee_id AS target_id, summary, NULL AS request_body,
               json_build_object('delegation_id', delegation_id,
                                 'text', result_preview)::text AS response_body,
               NULL AS tool_trace, NULL::int AS duration_ms, to_status AS status, error_detail,
               NULL AS message_id, NULL::uuid AS sender_id, NULL AS delegation_id, false AS late,
               0 AS bytes, NULL::float AS delay, organization_id, -1 AS opened
        FROM plan WHERE ends
        UNION ALL
        -- The result in the caller's inbox; a fire of a workspace's own schedule has none.
        SELECT ord, {_RESULT}, caller_id, item_id, 'a2a_receive', 'delegate_result', caller_id,
               callee_id,
               -- Clients that look for text in the summary find the outcome there.
               CASE to_status
                   WHEN 'completed' THEN coalesce(nullif({cut("result_preview", 200)}, ''),
                                                  'Delegation result delivered')
                   ELSE coalesce('Delegation failed: ' || {cut("error_detail", 200)},
                                 'Delegation failed') END,
               json_build_object('delegation_id', delegation_id)::text, response_body, NULL,
               NULL, CASE to_status WHEN 'completed' THEN 'ok' ELSE 'error' END, error_detail,
               '{PLATFORM}' || CASE WHEN late THEN 'late:' ELSE 'result:' END || delegation_id,
               callee_id, delegation_id, late, bytes, NULL, organization_id, 0
        FROM plan WHERE (ends OR late) AND caller_id <> callee_id
        UNION ALL
        -- Called off: whoever works on it hears of it.
        SELECT ord, {_CANCEL}, callee_id, gen_random_uuid(), 'a2a_receive', 'delegate_cancel',
               {SENDER}, callee_id, 'Delegation cancelled',
               json_build_object('delegation_id', delegation_id, 'text', error_detail)::text,
               NULL, NULL, NULL, 'ok', NULL, '{PLATFORM}cancel:' || delegation_id,
               {SENDER}, delegation_id, false, 0, NULL, organization_id, 0
        FROM plan WHERE ends AND failure_reason = 'cancelled'
        UNION ALL
        -- The task once more, for an agent with an inbox, under a message id of its own.
        SELECT ord, {_ATTEMPT}, callee_id, gen_random_uuid(), 'a2a_receive', 'delegate',
               {SENDER}, callee_id, task_summary, task_body::text, NULL, NULL, NULL, 'ok',
               NULL, '{PLATFORM}attempt:' || delegation_id || ':' || attempt,
               {SENDER}, delegation_id, false, octet_length(task_body::text), pause,
               organization_id, 0
        FROM attempts WHERE NOT pushed
    ),
    -- The ledger outlives workspaces: of one that was purged nobody is left to tell, and its id may
    -- be another organisation's by now.
    entries AS (
        SELECT a.* FROM announced a
        WHERE (SELECT w.organization_id FROM workspaces w WHERE w.id = a.workspace_id)
            = a.organization_id
    )
"""

# Parameters: the names of the events, $1 for another attempt and $2 for each move, and the moves.
MOVE = f"""
    WITH input AS (
        SELECT *, "to" AS to_status FROM unnest($2::text[], {rows.arrays(Move, 3)})
            WITH ORDINALITY AS t (event_type, {rows.names(Move)}, ord)
    ),
    {PLAN}, {_CHANGE}, {_ANNOUNCE}, {_ENTRIES}, {APPEND}
    SELECT coalesce(m.moves, false) AS moved, coalesce(m.again, false) AS retried,
           coalesce(m.late, false) AS late, m.ord IS NOT NULL AS found, m.caller_id, m.callee_id,
           m.before, coalesce(m.same, false) AS same, coalesce(m.early, false) AS early,
           {PLACED_COLUMNS}
    FROM input i LEFT JOIN plan m USING (ord)
    LEFT JOIN placed p ON p.ord = i.ord AND p.step = {_RESULT}
    ORDER BY i.ord
"""


async def move(writer: Writer | Connection, moves: Sequence[Move]) -> list[Moved]:
    """Make moves, with the rows that announce them, as one transaction.

    Each delegation may occur once.
    """
    found = await writer.fetch(
        MOVE,
        EventType.DELEGATION_STATUS,
        [_EVENTS[Status(each.to)] for each in moves],
        *rows.columns(moves),
    )
    return [
        Moved(
            moved=row["moved"],
            retried=row["retried"],
            late=row["late"],
            found=row["found"],
            caller_id=row["caller_id"],
            callee_id=row["callee_id"],
            before=row["before"],
            same=row["same"],
            early=row["early"],
            placed=placed(row),
        )
        for row in found
    ]
