"""The SQL of leases: a worker takes queued messages to send them, and settles their outcomes."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from operator import itemgetter
from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.db import rows
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.delegation.outbound.rules import Decision
from molecule_grpc.delegation.record.store.entries import APPEND, Entry
from molecule_grpc.delegation.record.store.usage import add_usage
from molecule_grpc.events.names import EventType

# The agent's own count of its tasks is believed for this long after its heartbeat.
FRESH_SECONDS = 90


class HeldMessage(NamedTuple):
    """A message under a worker's lease."""

    id: UUID
    workspace_id: UUID
    organization_id: UUID
    caller_id: UUID | None
    body: str
    method: str
    message_id: str | None
    delegation_id: str | None
    attempts: int
    misses: int
    # Seconds since the agent first said that it is about to be ready.
    settling: float | None


_HELD = """
    q.id, q.workspace_id, due.organization_id, q.caller_id, q.body::text AS body, q.method,
    q.idempotency_key AS message_id, q.delegation_id, q.attempts, q.misses,
    extract(epoch FROM now() - q.settling_since)::float AS settling
"""

# Without the lock two claims for one workspace would each take the same free slots.
_LOCK = """
    SELECT pg_advisory_xact_lock(hashtextextended(id::text, 1634887525)) FROM unnest($1::uuid[]) id
"""

_CLAIM = f"""
    -- An agent has room for `max_concurrent_tasks`, less the tasks of its last heartbeat and those
    -- handed to it since, or at least those that are under a lease now.
    WITH room AS (
        SELECT w.id, w.organization_id,
               w.max_concurrent_tasks - greatest(
                   f.in_flight, f.unseen + CASE WHEN h.fresh THEN w.active_tasks ELSE 0 END
               ) AS slots
        FROM workspaces w
        CROSS JOIN LATERAL (
            SELECT coalesce(
                w.last_heartbeat_at > now() - interval '{FRESH_SECONDS} seconds', false
            ) AS fresh
        ) h
        CROSS JOIN LATERAL (
            SELECT count(*) AS in_flight,
                   count(*) FILTER (WHERE q.dispatched_at > w.last_heartbeat_at) AS unseen
            FROM a2a_queue q WHERE q.workspace_id = w.id AND q.status = 'dispatched'
        ) f
        WHERE w.id = ANY($1) AND w.organization_id <> ALL($6::uuid[])
          -- For an agent that is stopped or being started messages wait, however long that takes.
          AND w.status NOT IN ('provisioning', 'hibernating', 'hibernated', 'paused')
          -- While a message waits for the agent to get ready, no later message may overtake it.
          AND NOT EXISTS (
              SELECT FROM a2a_queue q
              WHERE q.workspace_id = w.id AND q.status = 'queued' AND q.waiting
                AND q.next_attempt_at > now()
          )
    ),
    due AS (
        SELECT q.id, q.delegation_id, r.id AS callee_id, r.organization_id,
               row_number() OVER () AS place
        FROM room r CROSS JOIN LATERAL (
            SELECT id, delegation_id FROM a2a_queue
            WHERE workspace_id = r.id AND status = 'queued' AND next_attempt_at <= now()
              AND expires_at > now()
            ORDER BY priority DESC, enqueued_at, id
            LIMIT greatest(r.slots, 0)
            FOR UPDATE SKIP LOCKED
        ) q
        LIMIT $2
    ),
    -- Locked in the order of ids, like every statement that changes many delegations.
    accepted AS (
        SELECT d.delegation_id, d.callee_id, d.status IN ('completed', 'failed', 'stuck') AS ended
        FROM delegations d
        WHERE d.delegation_id = ANY(ARRAY(SELECT delegation_id FROM due))
          AND (d.delegation_id, d.callee_id) IN (SELECT delegation_id, callee_id FROM due)
        ORDER BY d.delegation_id FOR UPDATE
    ),
    handed AS (
        UPDATE delegations d SET status = 'dispatched', updated_at = now()
        FROM accepted a
        WHERE d.delegation_id = a.delegation_id AND d.callee_id = a.callee_id
          AND d.status = 'queued'
        RETURNING d.delegation_id, d.organization_id, d.caller_id, d.callee_id
    ),
    happened AS (
        INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
        SELECT gen_random_uuid(), $5::text, organization_id, caller_id,
               jsonb_build_object('delegation_id', delegation_id, 'target_id', callee_id,
                                  'status', 'dispatched')
        FROM handed
    )
    UPDATE a2a_queue q SET
        status = CASE WHEN a.ended THEN 'dropped' ELSE 'dispatched' END,
        last_error = CASE WHEN a.ended THEN 'its delegation has ended' ELSE q.last_error END,
        completed_at = CASE WHEN a.ended THEN now() END,
        dispatched_at = now(), lease_owner = $3,
        lease_until = now() + make_interval(secs => $4), waiting = false
    FROM due LEFT JOIN accepted a USING (delegation_id, callee_id)
    -- The array makes Postgres look the few rows up by their ids instead of scanning.
    WHERE q.id = due.id AND q.id = ANY(ARRAY(SELECT id FROM due))
    RETURNING {_HELD}, coalesce(a.ended, false) AS ended, due.place
"""


class Claimed(NamedTuple):
    """Messages to send now, and how many were dropped because their delegations had ended."""

    rows: list[HeldMessage]
    dropped: int


async def claim(
    conn: Connection,
    workspace_ids: Sequence[UUID],
    *,
    limit: int,
    owner: str,
    lease_seconds: float,
    without: Collection[Hashable] = (),
) -> Claimed:
    """Lease messages whose agents have room, by priority and age. Inside a transaction.

    However many workers claim at once, a workspace gets no more than it has room for.

    Args:
        limit: most messages to take.
        without: organisations whose messages are not taken.
    """
    await conn.execute(_LOCK, sorted(workspace_ids))
    found = await conn.fetch(
        _CLAIM,
        list(workspace_ids),
        limit,
        owner,
        lease_seconds,
        EventType.DELEGATION_STATUS,
        list(without),
    )
    found.sort(key=itemgetter("place"))
    held = [_held(row) for row in found if not row["ended"]]
    return Claimed(held, len(found) - len(held))


def _held(row: asyncpg.Record) -> HeldMessage:
    return HeldMessage(**{name: row[name] for name in HeldMessage._fields})


class _Settlement(NamedTuple):
    """How a lease on a message ends. The fields are the columns of the row on its way."""

    id: UUID
    owner: str
    status: str
    attempts: int
    misses: int
    # Seconds until the next attempt.
    delay: float
    # Whether the agent's whole queue waits for this message.
    waiting: bool
    # Whether the agent is about to be ready.
    settling: bool
    error: str | None
    # JSON text.
    response: str | None
    duration_ms: int | None


_FIRST_ENTRY = len(_Settlement._fields) + 1

_SETTLE = f"""
    WITH settled AS (
        UPDATE a2a_queue q SET
            status = s.status, attempts = s.attempts, misses = s.misses, waiting = s.waiting,
            next_attempt_at = now() + make_interval(secs => s.delay),
            settling_since = CASE WHEN s.settling THEN coalesce(q.settling_since, now()) END,
            last_error = coalesce(s.error, q.last_error), response_body = s.response::jsonb,
            completed_at = CASE WHEN s.status <> 'queued' THEN now() END,
            lease_owner = NULL, lease_until = NULL
        FROM {rows.unnest(_Settlement, 1, "s")}
        WHERE q.id = s.id AND q.lease_owner = s.owner AND q.status = 'dispatched'
        RETURNING q.delegation_id, q.workspace_id, q.response_body, s.duration_ms
    ),
    -- The task's row of the record was written with the delegation: add the answer to the row.
    answered AS (
        UPDATE activity_logs a SET
            response_body = s.response_body, duration_ms = s.duration_ms,
            body_bytes = a.body_bytes + octet_length(s.response_body::text)
        FROM settled s
        JOIN delegations d ON d.delegation_id = s.delegation_id AND d.callee_id = s.workspace_id
        WHERE a.id = d.item_id AND s.response_body IS NOT NULL
        RETURNING d.organization_id, octet_length(s.response_body::text) AS size
    ),
    -- Such a row's answer counts like a row; a message that carries no delegation has `entries`.
    counted AS ({add_usage("FROM answered", "sum(size)", "0")}),
    -- A worker that has lost its lease records nothing.
    entries AS (
        SELECT e.*, 0 AS step, 0 AS opened,
               (SELECT w.organization_id FROM workspaces w WHERE w.id = e.workspace_id)
        FROM {rows.unnest(Entry, _FIRST_ENTRY, "e")}
        WHERE EXISTS (SELECT FROM settled)
    ),
    {APPEND}
    SELECT EXISTS (SELECT FROM settled)
"""


async def settle(
    conn: Pool | Connection,
    row_id: UUID,
    owner: str,
    decision: Decision,
    *,
    response: str | None,
    duration_ms: int | None,
    entries: Sequence[Entry],
) -> bool:
    """End a lease as a decision says, with the rows that record it, as one transaction.

    False when the lease is another worker's now; nothing is written then.
    """
    settlement = _Settlement(
        id=row_id,
        owner=owner,
        status=decision.row,
        attempts=decision.attempts,
        misses=decision.misses,
        delay=decision.delay,
        waiting=decision.waiting,
        settling=decision.settling,
        error=decision.error,
        response=response,
        duration_ms=duration_ms,
    )
    settled: bool = await conn.fetchval(
        _SETTLE,
        *rows.columns([settlement]),
        *(rows.columns(entries) if entries else rows.no_rows(Entry)),
    )
    return settled
