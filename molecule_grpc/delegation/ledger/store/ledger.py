"""The SQL that changes the ledger: accepting a delegation, moving it, freeing its key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Writer
from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.delegation.record.store.entries import (
    APPEND,
    PLACED_COLUMNS,
    SENDER,
    Placed,
    columns,
    placed,
)


class DelegationDraft(NamedTuple):
    """A delegation to be accepted. The order of the fields is the order of the columns."""

    delegation_id: str
    caller_id: UUID
    callee_id: UUID
    organization_id: UUID
    task_preview: str
    # `queued` when the platform hands it over, `dispatched` when the agent did.
    status: str
    idempotency_key: str | None
    request_hash: bytes
    deadline_seconds: int
    # The rows that announce it; `item_id` is None when there is nothing to hand over.
    audit_id: UUID
    item_id: UUID | None
    request_body: str
    bytes: int
    # Whether the inbox takes it even when it looks full.
    exempt: bool = False
    max_attempts: int = 1
    retry_backoff_seconds: int = 10
    retry_of: str | None = None
    # The row of the queue that carries it to an agent with a URL; None for one with an inbox.
    queue_id: UUID | None = None


class Accepted(NamedTuple):
    """What became of a draft: `fresh` when the ledger took it, `full` when the inbox is full."""

    fresh: bool
    full: bool
    placed: Placed | None = None


def _cut(text: str, limit: int) -> str:
    """SQL for at most so many characters, the last of them an ellipsis where something is cut."""
    return (
        f"CASE WHEN length({text}) > {limit} THEN left({text}, {limit - 1}) || '…' ELSE {text} END"
    )


# Whether a workspace `w` is called at a URL; anything else reads its inbox.
PUSHED = (
    "coalesce(w.delivery_mode, CASE w.runtime WHEN 'external' THEN 'poll' ELSE 'push' END) = 'push'"
)

# A draft's rows enter the record in this order: the caller's audit row, the callee's item. For an
# agent with a URL the latter is a record only, and the task goes into the queue.
ACCEPT = f"""
    WITH input AS (
        SELECT * FROM unnest(
            $1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[],
            $8::bytea[], $9::int[], $10::uuid[], $11::uuid[], $12::text[], $13::int[], $14::bool[],
            $15::int[], $16::int[], $17::text[], $18::uuid[]
        ) WITH ORDINALITY AS t (
            delegation_id, caller_id, callee_id, organization_id, task_preview, status,
            idempotency_key, request_hash, deadline_seconds, audit_id, item_id, request_body, bytes,
            exempt, max_attempts, retry_backoff_seconds, retry_of, queue_id, ord
        )
    ),
    filling AS (
        SELECT i.ord
        FROM input i JOIN inbox_heads h ON h.workspace_id = i.callee_id
        WHERE i.item_id IS NOT NULL AND i.queue_id IS NULL AND NOT i.exempt
          AND (h.last_seq - h.acked_seq >= $19 OR h.bytes - h.acked_bytes >= $20)
        UNION ALL
        SELECT i.ord
        FROM input i
        WHERE i.queue_id IS NOT NULL AND NOT i.exempt AND $19 <= (
            SELECT count(*) FROM (
                SELECT FROM a2a_queue q
                WHERE q.workspace_id = i.callee_id AND q.status = 'queued' LIMIT $19
            ) waiting
        )
    ),
    -- Untargeted: the id or the caller's key may be the one that is taken.
    accepted AS (
        INSERT INTO delegations (
            delegation_id, caller_id, callee_id, organization_id, task_preview, status,
            idempotency_key, request_hash, deadline, item_id, max_attempts,
            retry_backoff_seconds, retry_of
        )
        SELECT delegation_id, caller_id, callee_id, organization_id, task_preview, status,
               idempotency_key, request_hash, now() + make_interval(secs => deadline_seconds),
               item_id, max_attempts, retry_backoff_seconds, retry_of
        FROM input WHERE ord NOT IN (SELECT ord FROM filling)
        ORDER BY delegation_id
        ON CONFLICT DO NOTHING
        RETURNING delegation_id, caller_id
    ),
    entries AS (
        SELECT 2 * i.ord AS ord, i.caller_id AS workspace_id, i.audit_id AS activity_id,
               'delegation' AS activity_type, 'delegate' AS method, i.caller_id AS source_id,
               i.callee_id AS target_id, i.task_preview AS summary, NULL AS request_body,
               json_build_object('delegation_id', i.delegation_id)::text AS response_body,
               NULL AS tool_trace, NULL::int AS duration_ms,
               CASE i.status WHEN 'queued' THEN 'pending' ELSE i.status END AS status,
               NULL AS error_detail, NULL AS message_id, NULL::uuid AS sender_id,
               NULL AS delegation_id, false AS late, 0 AS bytes, NULL::float AS delay
        FROM input i JOIN accepted USING (delegation_id, caller_id)
        UNION ALL
        SELECT 2 * i.ord + 1, i.callee_id, i.item_id, 'a2a_receive', 'delegate', i.caller_id,
               i.callee_id, i.task_preview, i.request_body, NULL, NULL, NULL, 'ok', NULL,
               CASE WHEN i.queue_id IS NULL THEN i.delegation_id END, i.caller_id,
               i.delegation_id, false, i.bytes, NULL
        FROM input i JOIN accepted USING (delegation_id, caller_id)
        WHERE i.item_id IS NOT NULL
    ),
    outbox AS (
        INSERT INTO a2a_queue (
            id, workspace_id, caller_id, body, method, idempotency_key, delegation_id, expires_at
        )
        SELECT i.queue_id, i.callee_id, i.caller_id, i.request_body::jsonb, 'message/send',
               i.delegation_id, i.delegation_id, now() + make_interval(secs => i.deadline_seconds)
        FROM input i JOIN accepted USING (delegation_id, caller_id)
        WHERE i.queue_id IS NOT NULL
    ),
    happened AS (
        INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
        SELECT gen_random_uuid(), 'DELEGATION_SENT', i.organization_id, i.caller_id,
               jsonb_build_object('delegation_id', i.delegation_id, 'target_id', i.callee_id,
                                  'task_preview', {_cut("i.task_preview", 100)})
        FROM input i JOIN accepted USING (delegation_id, caller_id)
    ),
    {APPEND}
    SELECT a.delegation_id IS NOT NULL AS fresh, f.ord IS NOT NULL AS full, {PLACED_COLUMNS}
    FROM input i LEFT JOIN accepted a USING (delegation_id, caller_id)
    LEFT JOIN filling f USING (ord)
    LEFT JOIN placed p ON p.ord = 2 * i.ord + 1 {SENDER}
    ORDER BY i.ord
"""


async def accept(
    writer: Writer | Connection,
    drafts: Sequence[DelegationDraft],
    *,
    max_items: int,
    max_bytes: int,
) -> list[Accepted]:
    """Enter drafts into the ledger, with their announcements, as one transaction."""
    rows = await writer.fetch(ACCEPT, *columns(drafts), max_items, max_bytes)
    return [Accepted(*list(row)[:2])._replace(placed=placed(list(row)[2:])) for row in rows]


class Move(NamedTuple):
    """A step of a delegation. The order of the fields is the order of the columns.

    `party_id` is one of its two parties, and names it with the id: another organisation may have a
    delegation of the same id. The platform moves in the name of either.
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


# Permitted: forward out of the three live states, and a beat that stays in_progress. The guard
# sits in the UPDATE, so of two writers one wins and the other changes nothing.
MOVE = f"""
    WITH input AS (
        SELECT * FROM unnest(
            $1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bool[], $7::text[],
            $8::text[], $9::text[], $10::text[], $11::int[], $12::uuid[], $13::uuid[],
            $14::bool[], $15::timestamptz[], $16::text[], $17::int[], $18::bool[], $19::bool[],
            $20::text[]
        ) WITH ORDINALITY AS t (
            delegation_id, party_id, to_status, result_preview, result, truncated, error_detail,
            failure_reason, summary, response_body, bytes, audit_id, item_id, overdue, beat_before,
            note, percent, by_caller, final, via, ord
        )
    ),
    -- A failure that may pass leads to another attempt, as long as the caller allowed it and the
    -- task is still on record. The status stays: it only ever moves forward. What is left of the
    -- attempts is read from the row that is updated, not from a snapshot that may be old.
    retriable AS (
        SELECT i.ord, i.to_status = 'failed' AND a.id IS NOT NULL AND NOT i.final
                      AND i.failure_reason IN ('agent_error', 'unreachable', 'poisoned') IS TRUE
                      AS passing
        FROM input i
        LEFT JOIN delegations d ON d.delegation_id = i.delegation_id
            AND i.party_id IN (d.caller_id, d.callee_id)
        LEFT JOIN activity_logs a ON a.id = d.item_id
    ),
    before AS (
        SELECT i.ord, d.caller_id, d.callee_id, d.status,
               d.status = 'stuck' OR d.status = 'failed' AND d.failure_reason = 'deadline'
                   AS gave_up,
               (d.status = i.to_status OR r.passing AND d.attempt_due > now())
                   AND d.result IS NOT DISTINCT FROM i.result
                   AND (d.error_detail IS NOT DISTINCT FROM i.error_detail
                        OR d.failure_reason = 'cancelled' AND i.failure_reason = 'cancelled')
                   AS same,
               r.passing AND d.attempt_due > now() AS early
        FROM input i JOIN retriable r USING (ord) JOIN delegations d USING (delegation_id)
        WHERE i.party_id = d.caller_id OR i.party_id = d.callee_id AND NOT i.by_caller
    ),
    moved AS (
        UPDATE delegations d SET
            status = CASE WHEN r.passing AND d.retry_count + 1 < d.max_attempts
                          THEN d.status ELSE i.to_status END,
            retry_count = d.retry_count
                          + (r.passing AND d.retry_count + 1 < d.max_attempts)::int,
            attempt_due = CASE WHEN r.passing AND d.retry_count + 1 < d.max_attempts
                               THEN now() + make_interval(secs => least(
                                   3600, d.retry_backoff_seconds * 2.0 ^ d.retry_count))
                               ELSE d.attempt_due END,
            -- The next attempt has shown no beat yet: it is not silent for what was before.
            last_heartbeat = CASE WHEN r.passing AND d.retry_count + 1 < d.max_attempts THEN NULL
                                  WHEN i.to_status = 'in_progress' THEN now()
                                  ELSE d.last_heartbeat END,
            result_preview = i.result_preview,
            result = i.result,
            truncated = i.truncated,
            error_detail = i.error_detail,
            failure_reason = CASE WHEN r.passing AND d.retry_count + 1 < d.max_attempts
                                  THEN NULL ELSE i.failure_reason END,
            progress_note = coalesce(i.note, d.progress_note),
            progress_percent = coalesce(i.percent, d.progress_percent),
            updated_at = now()
        FROM input i JOIN retriable r USING (ord)
        WHERE d.delegation_id = i.delegation_id
          AND (i.party_id = d.caller_id OR i.party_id = d.callee_id AND NOT i.by_caller)
          AND d.status IN ('queued', 'dispatched', 'in_progress')
          -- What fails before it is handed over is the attempt before, told once more.
          AND NOT (r.passing AND coalesce(d.attempt_due > now(), false))
          AND (NOT i.overdue OR d.deadline < now())
          AND (i.beat_before IS NULL OR d.last_heartbeat < i.beat_before)
        RETURNING i.ord, d.organization_id, d.caller_id, d.callee_id, d.retry_count, d.item_id,
                  d.attempt_due, d.deadline, d.status <> i.to_status AS again
    ),
    -- Another attempt: the same task, later, by whichever way the callee is reached now.
    again AS (
        SELECT m.*, i.delegation_id, a.summary, a.request_body, {PUSHED} AS pushed,
               extract(epoch FROM m.attempt_due - now())::float AS delay
        FROM moved m JOIN input i USING (ord) JOIN activity_logs a ON a.id = m.item_id
        JOIN workspaces w ON w.id = m.callee_id
        WHERE m.again
    ),
    outbox AS (
        INSERT INTO a2a_queue (
            id, workspace_id, caller_id, body, method, idempotency_key, delegation_id,
            next_attempt_at, expires_at
        )
        SELECT gen_random_uuid(), g.callee_id, g.caller_id,
               jsonb_set(jsonb_set(g.request_body, '{{id}}', to_jsonb(g.message_id)),
                         '{{params,message,messageId}}', to_jsonb(g.message_id)),
               'message/send', g.message_id, g.delegation_id,
               g.attempt_due, g.deadline
        FROM (SELECT *, delegation_id || '#' || retry_count + 1 AS message_id FROM again) g
        WHERE g.pushed
    ),
    ended AS (
        SELECT i.*, m.caller_id, m.callee_id, false AS is_late
        FROM moved m JOIN input i USING (ord)
        WHERE i.to_status IN ('completed', 'failed', 'stuck') AND NOT m.again
        UNION ALL
        -- Finished work is not thrown away because the ledger had given up on it.
        SELECT i.*, b.caller_id, b.callee_id, true
        FROM before b JOIN input i USING (ord)
        WHERE b.gave_up AND i.to_status = 'completed'
          AND NOT EXISTS (
              SELECT FROM inbox_items x
              WHERE x.workspace_id = b.caller_id
                AND x.message_id = '{PLATFORM}late:' || i.delegation_id
          )
    ),
    announced AS (
        SELECT 4 * e.ord AS ord, e.caller_id AS workspace_id, e.audit_id AS activity_id,
               'delegation' AS activity_type, 'delegate_result' AS method,
               e.caller_id AS source_id, e.callee_id AS target_id, e.summary,
               NULL AS request_body,
               json_build_object('delegation_id', e.delegation_id,
                                 'text', e.result_preview)::text AS response_body,
               NULL AS tool_trace, NULL::int AS duration_ms, e.to_status AS status, e.error_detail,
               NULL AS message_id, NULL::uuid AS sender_id, NULL AS delegation_id, false AS late,
               0 AS bytes, NULL::float AS delay
        FROM ended e WHERE NOT e.is_late
        UNION ALL
        SELECT 4 * e.ord + 1, e.caller_id, e.item_id, 'a2a_receive', 'delegate_result',
               e.caller_id, e.callee_id,
               CASE e.to_status WHEN 'completed' THEN 'Delegation result delivered'
                                ELSE 'Delegation failed' END,
               json_build_object('delegation_id', e.delegation_id)::text, e.response_body, NULL,
               NULL, CASE e.to_status WHEN 'completed' THEN 'ok' ELSE 'error' END, e.error_detail,
               CASE WHEN e.is_late THEN '{PLATFORM}late:' ELSE '{PLATFORM}result:' END
                   || e.delegation_id,
               e.callee_id, e.delegation_id, e.is_late, e.bytes, NULL
        FROM ended e
        UNION ALL
        -- Called off: whoever works on it hears of it.
        SELECT 4 * e.ord + 2, e.callee_id, gen_random_uuid(), 'a2a_receive', 'delegate_cancel',
               e.caller_id, e.callee_id, 'Delegation cancelled',
               json_build_object('delegation_id', e.delegation_id, 'text', e.error_detail)::text,
               NULL, NULL, NULL, 'ok', NULL, '{PLATFORM}cancel:' || e.delegation_id,
               e.caller_id, e.delegation_id, false, 0, NULL
        FROM ended e WHERE e.failure_reason = 'cancelled'
        UNION ALL
        -- Under a message id of its own.
        SELECT 4 * g.ord + 3, g.callee_id, gen_random_uuid(), 'a2a_receive', 'delegate',
               g.caller_id, g.callee_id, g.summary, g.request_body::text, NULL, NULL, NULL, 'ok',
               NULL, '{PLATFORM}attempt:' || g.delegation_id || ':' || g.retry_count + 1,
               g.caller_id, g.delegation_id, false, octet_length(g.request_body::text), g.delay
        FROM again g WHERE NOT g.pushed
    ),
    -- The ledger outlives workspaces: of one that was purged nobody is left to tell.
    entries AS (
        SELECT a.* FROM announced a
        WHERE (SELECT true FROM workspaces w WHERE w.id = a.workspace_id)
    ),
    -- A beat is no news after the first one.
    happened AS (
        INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
        SELECT gen_random_uuid(),
               CASE WHEN m.again OR i.to_status = 'in_progress' THEN 'DELEGATION_STATUS'
                    WHEN i.to_status = 'completed' THEN 'DELEGATION_COMPLETE'
                    WHEN i.to_status = 'failed' THEN 'DELEGATION_FAILED'
                    ELSE 'DELEGATION_STUCK' END,
               m.organization_id, m.caller_id,
               jsonb_strip_nulls(jsonb_build_object(
                   'delegation_id', i.delegation_id, 'target_id', m.callee_id,
                   'status', CASE WHEN m.again THEN 'retrying' ELSE i.to_status END,
                   'response_preview', {_cut("i.result_preview", 200)},
                   'error', i.error_detail, 'via', i.via))
        FROM moved m JOIN input i USING (ord) JOIN before b USING (ord)
        WHERE b.status IS DISTINCT FROM i.to_status
    ),
    {APPEND}
    SELECT m.ord IS NOT NULL AS moved, coalesce(m.again, false) AS retried,
           coalesce(e.is_late, false) AS late, b.ord IS NOT NULL AS found,
           b.caller_id, b.callee_id, b.status AS before, coalesce(b.same, false) AS same,
           coalesce(b.early, false) AS early,
           {PLACED_COLUMNS}
    FROM input i LEFT JOIN before b USING (ord) LEFT JOIN moved m USING (ord)
    LEFT JOIN ended e USING (ord) LEFT JOIN placed p ON p.ord = 4 * i.ord + 1 {SENDER}
    ORDER BY i.ord
"""


async def move(writer: Writer | Connection, moves: Sequence[Move]) -> list[Moved]:
    """Make moves, with the rows that announce an end, as one transaction.

    Each delegation may occur once.
    """
    # Rows are locked in the order of the input: the same order for every writer.
    order = sorted(range(len(moves)), key=lambda n: moves[n].delegation_id)
    rows = await writer.fetch(MOVE, *columns([moves[n] for n in order]))
    outcomes = {
        n: Moved(*list(row)[:9])._replace(placed=placed(list(row)[9:]))
        for n, row in zip(order, rows, strict=True)
    }
    return [outcomes[n] for n in range(len(moves))]


async def free_key(conn: Connection, caller_id: UUID, key: str) -> None:
    """Take the key off a delegation that failed or is older than a day. It stays for audit."""
    await conn.execute(
        """
        UPDATE delegations SET idempotency_key = NULL
        WHERE caller_id = $1 AND idempotency_key = $2
          AND (status = 'failed' OR created_at < now() - interval '24 hours')
        """,
        caller_id,
        key,
    )


async def release_key(conn: Connection, draft: DelegationDraft) -> None:
    """Take the key off the retry that ended badly."""
    await conn.execute(
        """
        UPDATE delegations SET idempotency_key = NULL
        WHERE caller_id = $1 AND idempotency_key = $2 AND status IN ('failed', 'stuck')
        """,
        draft.caller_id,
        draft.idempotency_key,
    )
