"""The SQL that decides the outcome of a move, from the locked rows of its delegation."""

from __future__ import annotations

from typing import Final

from molecule_grpc.delegation.ledger.rules import PERMITTED
from molecule_grpc.delegation.ledger.store.fragments import FINAL_STATUSES
from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.delegation.record.store.entries import same_message

# SQL for the table of permitted moves: pairs of the target and a status that may be left for it.
_PERMITTED: Final = ", ".join(
    f"('{target}', '{source}')"
    for target, sources in PERMITTED.items()
    for source in sorted(sources)
)

_LATE_ID: Final = f"'{PLATFORM}late:' || i.delegation_id"

# Takes a CTE `input (ord, to_status, <names(Move)>)` and makes `plan`.
#
# The decisions: one row for each move whose delegation exists and whose party may make the move.
#   retriable  another attempt may help against this failure, and the task is still on record
#   early      a retriable failure, reported before the next attempt is due: the failure belongs to
#              the previous attempt and changes nothing
#   moves      the row changes, as the table of permitted moves and the sweeper's guards allow
#   again      the row changes by another attempt, as the caller allowed it, and the task goes on
#   ends       the row changes to a final status
#   late       a result for a delegation that was given up: the row stays, the result is delivered
#   same       the row holds already what the move says
#
# Concurrency, under READ COMMITTED: the inner SELECT waits for a row that another transaction has
# changed and returns the committed version (EvalPlanQual); the decisions use this
# version. From then on nobody else changes the row until this transaction ends. The UPDATE
# of `changed` may find an older version in its snapshot; Postgres follows that to the locked
# version, joins the version with the row of `plan` as computed here, and evaluates SET with it. So
# the second of two writers decides from the state that the first has left. Rows are locked in the
# order of their ids, as by every statement that changes many delegations: no two can deadlock.
#
# Each move looks up its own rows (LATERAL): a plan made while the tables were small would else join
# all moves with the whole table by a merge.
PLAN: Final = f"""
    plan AS (
        SELECT i.*, d.organization_id, d.caller_id, d.callee_id, d.status AS before, d.deadline,
               d.retry_count + 2 AS attempt, task.summary AS task_summary,
               task.request_body AS task_body, r.retriable, e.early, m.moves, a.again,
               m.moves AND NOT a.again AND i.to_status IN ({FINAL_STATUSES}) AS ends,
               least(3600, d.retry_backoff_seconds * 2.0 ^ d.retry_count)::float AS pause,
               (d.status = i.to_status OR e.early)
                   AND d.result IS NOT DISTINCT FROM i.result
                   AND (d.error_detail IS NOT DISTINCT FROM i.error_detail
                        OR d.failure_reason = 'cancelled' AND i.failure_reason = 'cancelled')
                   AS same,
               i.to_status = 'completed'
                   AND (d.status = 'stuck' OR d.status = 'failed' AND d.failure_reason = 'deadline')
                   AND NOT EXISTS (
                       SELECT FROM inbox_items x
                       WHERE {same_message(_LATE_ID, "d.caller_id")}
                   ) AS late
        FROM (SELECT * FROM input ORDER BY delegation_id) i
        CROSS JOIN LATERAL (
            SELECT d.* FROM delegations d
            WHERE d.delegation_id = i.delegation_id
              AND (i.party_id = d.caller_id OR i.party_id = d.callee_id AND NOT i.by_caller)
              -- After a purge the id of a party may be another organisation's, which moves nothing.
              AND (d.organization_id = i.of_organization
                   OR i.of_organization IS NULL AND NOT EXISTS (
                       SELECT FROM workspaces w
                       WHERE w.id = i.party_id AND w.organization_id <> d.organization_id
                   ))
            FOR NO KEY UPDATE OF d
        ) d
        LEFT JOIN LATERAL (
            SELECT a.id, a.summary, a.request_body FROM activity_logs a
            WHERE a.id = d.item_id AND i.to_status = 'failed' OFFSET 0
        ) task ON true
        CROSS JOIN LATERAL (
            SELECT (task.id IS NOT NULL AND NOT i.final
                    AND i.failure_reason IN ('agent_error', 'unreachable', 'poisoned')) IS TRUE
                AS retriable
        ) r
        CROSS JOIN LATERAL (SELECT (r.retriable AND d.attempt_due > now()) IS TRUE AS early) e
        CROSS JOIN LATERAL (
            SELECT ((i.to_status, d.status) IN ({_PERMITTED}) AND NOT e.early
                    AND (NOT i.overdue OR d.deadline < now())
                    AND (i.beat_before IS NULL OR d.last_heartbeat < i.beat_before)) IS TRUE
                AS moves
        ) m
        CROSS JOIN LATERAL (
            SELECT m.moves AND r.retriable AND d.retry_count + 1 < d.max_attempts AS again
        ) a
    )
"""
