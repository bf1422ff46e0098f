"""The SQL that accepts delegations: the ledger's rows and all that announces them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.db import rows
from molecule_grpc.db.pool import Connection, Writer
from molecule_grpc.delegation.ledger.store.fragments import SENDER, cut
from molecule_grpc.delegation.ledger.store.limits import Limits
from molecule_grpc.delegation.record.store.entries import (
    APPEND,
    PLACED_COLUMNS,
    Placed,
    append_rows,
    placed,
)
from molecule_grpc.delegation.record.store.usage import TODAY, USAGE
from molecule_grpc.events.names import EventType
from molecule_grpc.quotas import UNLIMITED


class DelegationDraft(NamedTuple):
    """A delegation to be accepted. The fields are the columns of the row on its way."""

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
    # JSON text, and its length in UTF-8.
    request_body: str
    bytes: int
    # Whether the inbox takes it even when it looks full.
    exempt: bool = False
    max_attempts: int = 1
    retry_backoff_seconds: int = 10
    # The delegation that an operator tries again with this one.
    retry_of: str | None = None
    # The row of the queue that carries it to an agent with a URL; None for one with an inbox.
    queue_id: UUID | None = None


class Beyond(enum.StrEnum):
    """A quota that has no room for a delegation."""

    WORKSPACE = "workspace"
    ORGANIZATION = "organization"
    RECORD = "record"


class Accepted(NamedTuple):
    """What became of a draft: `fresh` when the ledger took it, `full` when the inbox is full."""

    fresh: bool
    full: bool
    placed: Placed | None = None
    # The quota that has no room for the draft: see `Beyond`.
    beyond: str | None = None


# Drafts whose callee has no room: `$1` items or `$2` bytes wait in its inbox, or `$1` messages in
# its queue.
_FULL = f"""
    filling AS (
        SELECT i.ord
        FROM input i JOIN inbox_heads h ON h.workspace_id = i.callee_id
        WHERE i.item_id IS NOT NULL AND i.queue_id IS NULL AND NOT i.exempt
          AND (h.last_seq - h.acked_seq >= $1 OR h.bytes - h.acked_bytes >= $2)
        UNION ALL
        SELECT i.ord
        FROM input i
        WHERE i.queue_id IS NOT NULL AND NOT i.exempt AND $1 < {UNLIMITED} AND $1 <= (
            SELECT count(*) FROM (
                SELECT FROM a2a_queue q
                WHERE q.workspace_id = i.callee_id AND q.status = 'queued'
                -- The order of the index that is wanted: a plan made while the queue was empty
                -- would take any.
                ORDER BY q.priority DESC, q.enqueued_at, q.id LIMIT $1
            ) waiting
        )
    )
"""

# Drafts for which there is no room under a quota: `$4` delegations of a caller and `$5` of an
# organisation are under way, or the organisation has recorded `$6` bytes today. A draft
# counts together with the earlier drafts of its batch.
_BEYOND = f"""
    {USAGE},
    beyond AS (
        SELECT i.ord, i.quota
        FROM (
            SELECT n.ord, CASE
                WHEN coalesce(h.open_delegations, 0) + n.of_caller > $4::bigint
                    THEN '{Beyond.WORKSPACE}'
                WHEN coalesce(u.open, 0) + n.of_organization > $5::bigint
                    THEN '{Beyond.ORGANIZATION}'
                WHEN coalesce(u.bytes, 0) + n.total > $6::bigint THEN '{Beyond.RECORD}'
            END AS quota
            FROM (
                SELECT ord, caller_id, organization_id,
                       count(*) OVER (PARTITION BY caller_id ORDER BY ord) AS of_caller,
                       count(*) OVER in_order AS of_organization,
                       sum(bytes) OVER in_order AS total
                FROM input
                WINDOW in_order AS (PARTITION BY organization_id ORDER BY ord)
            ) n
            LEFT JOIN inbox_heads h ON h.workspace_id = n.caller_id
            LEFT JOIN usage u USING (organization_id)
        ) i
        WHERE i.quota IS NOT NULL
    )
"""


def _take(condition: str = "") -> str:
    return f"""
    -- No conflict target: the id or the caller's key may be the one that is taken.
    inserted AS (
        INSERT INTO delegations (
            delegation_id, caller_id, callee_id, organization_id, task_preview, status,
            idempotency_key, request_hash, deadline, item_id, max_attempts,
            retry_backoff_seconds, retry_of
        )
        SELECT delegation_id, caller_id, callee_id, organization_id, task_preview, status,
               idempotency_key, request_hash, now() + make_interval(secs => deadline_seconds),
               item_id, max_attempts, retry_backoff_seconds, retry_of
        FROM input
        {condition}
        ORDER BY delegation_id
        ON CONFLICT DO NOTHING
        RETURNING delegation_id, caller_id
    ),
    -- The drafts that the ledger took.
    accepted AS (SELECT * FROM input JOIN inserted USING (delegation_id, caller_id))
"""


_OUTBOX = f"""
    -- For an agent with a URL the task goes into the queue.
    outbox AS (
        INSERT INTO a2a_queue (
            id, workspace_id, caller_id, body, method, idempotency_key, delegation_id, expires_at
        )
        SELECT queue_id, callee_id, {SENDER}, request_body::jsonb, 'message/send',
               delegation_id, delegation_id, now() + make_interval(secs => deadline_seconds)
        FROM accepted WHERE queue_id IS NOT NULL
    )
"""

# The steps of one draft, in the order in which its rows enter the record.
_AUDIT, _TASK = 0, 1

_ANNOUNCE = f"""
    happened AS (
        INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
        -- Not a random id: each costs Postgres three system calls.
        SELECT audit_id, $3::text, organization_id, caller_id,
               jsonb_build_object('delegation_id', delegation_id, 'target_id', callee_id,
                                  'task_preview', {cut("task_preview", 100)})
        FROM accepted
    ),
    -- The caller's audit row, and the task in the callee's inbox. For an agent with a URL the task
    -- is a row of the record only.
    entries AS (
        SELECT ord, {_AUDIT} AS step, caller_id AS workspace_id, audit_id AS activity_id,
               'delegation' AS activity_type, 'delegate' AS method, caller_id AS source_id,
               callee_id AS target_id, task_preview AS summary, NULL AS request_body,
               json_build_object('delegation_id', delegation_id)::text AS response_body,
               NULL AS tool_trace, NULL::int AS duration_ms,
               CASE status WHEN 'queued' THEN 'pending' ELSE status END AS status,
               NULL AS error_detail, NULL AS message_id, NULL::uuid AS sender_id,
               NULL AS delegation_id, false AS late, 0 AS bytes, NULL::float AS delay,
               organization_id, 1 AS opened
        FROM accepted
        UNION ALL
        SELECT ord, {_TASK}, callee_id, item_id, 'a2a_receive', 'delegate', {SENDER}, callee_id,
               task_preview, request_body, NULL, NULL, NULL, 'ok', NULL,
               CASE WHEN queue_id IS NULL THEN delegation_id END, {SENDER}, delegation_id, false,
               bytes, NULL, organization_id, 0
        FROM accepted WHERE item_id IS NOT NULL
    )
"""

_ROOM = "WHERE ord NOT IN (SELECT ord FROM filling UNION ALL SELECT ord FROM beyond)"

# Parameters: the limits of an inbox, the name of the event, the quotas, and the drafts.
_INPUT = f"input AS (SELECT * FROM {rows.unnest(DelegationDraft, 7)})"
ACCEPT = f"""
    WITH {_INPUT}, {_FULL}, {_BEYOND}, {_take(_ROOM)}, {_OUTBOX}, {_ANNOUNCE}, {APPEND}
    SELECT a.ord IS NOT NULL AS fresh, f.ord IS NOT NULL AS full, b.quota AS beyond,
           {PLACED_COLUMNS}
    FROM input i LEFT JOIN accepted a USING (ord) LEFT JOIN filling f USING (ord)
    LEFT JOIN beyond b USING (ord)
    LEFT JOIN placed p ON p.ord = i.ord AND p.step = {_TASK}
    ORDER BY i.ord
"""

# The same while every inbox and every quota has room, for agents with an inbox: a quarter of the
# plan less. What a batch adds is compared with the limits in the rows that it has written; beyond
# one of them the statement divides by zero, and so has changed nothing.
_CHECKED_HEADS = """
    CASE WHEN h.open_delegations > $4::bigint
           OR h.last_seq > coalesce(old.last_seq, 0)
              AND (h.last_seq - h.acked_seq > $1 OR h.bytes - h.acked_bytes > $2)
         THEN 1 / (h.last_seq - h.last_seq) END
"""
_CHECKED_USAGE = f"""
    (SELECT CASE WHEN coalesce(sum(x.open_delegations), 0) + u.open_delegations
                      - coalesce(old.open_delegations, 0) > $5::bigint
                   OR coalesce(sum(x.record_bytes) FILTER (WHERE x.day = {TODAY}), 0)
                      + u.record_bytes
                      - CASE WHEN old.day = u.day THEN old.record_bytes ELSE 0 END > $6::bigint
                 THEN 1 / (u.record_bytes - u.record_bytes) END
     FROM organization_usage x WHERE x.organization_id = u.organization_id)
"""
ACCEPT_WITH_ROOM = f"""
    WITH {_INPUT}, {_take()}, {_ANNOUNCE},
    {append_rows(checked_heads=_CHECKED_HEADS, checked_usage=_CHECKED_USAGE)}
    SELECT a.ord IS NOT NULL AS fresh, {PLACED_COLUMNS}
    FROM input i LEFT JOIN accepted a USING (ord)
    LEFT JOIN placed p ON p.ord = i.ord AND p.step = {_TASK}
    ORDER BY i.ord
"""


async def accept(
    writer: Writer | Connection, drafts: Sequence[DelegationDraft], limits: Limits
) -> list[Accepted]:
    """Enter drafts into the ledger, with their announcements, as one transaction.

    Args:
        writer: where the statement runs.
        drafts: no two of them with one id or one key of a caller.
        limits: which drafts are refused, each for itself.

    The quotas hold within a statement. Statements of several workers at once do not see one
    another, so that each may add a batch more.
    """
    found = await writer.fetch(ACCEPT, *_parameters(drafts, limits))
    return [Accepted(row["fresh"], row["full"], placed(row), row["beyond"]) for row in found]


async def accept_with_room(
    writer: Writer | Connection, drafts: Sequence[DelegationDraft], limits: Limits
) -> list[Accepted] | None:
    """`accept` at a lower price. None when a limit is in the way; nothing has changed then.

    Args:
        drafts: for agents with an inbox, none of them exempt; as for `accept`.
    """
    try:
        found = await writer.fetch(ACCEPT_WITH_ROOM, *_parameters(drafts, limits))
    except asyncpg.DivisionByZeroError:
        return None
    return [Accepted(row["fresh"], full=False, placed=placed(row)) for row in found]


def _parameters(drafts: Sequence[DelegationDraft], limits: Limits) -> list[object]:
    items, size, *quotas = limits
    return [items, size, EventType.DELEGATION_SENT, *quotas, *rows.columns(drafts)]
