"""The SQL that reads the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.delegation.ledger.store.accept import DelegationDraft
from molecule_grpc.delegation.ledger.store.fragments import PUSHED


class DelegationRow(NamedTuple):
    """The columns of a delegation that its two parties may see.

    The names of the fields are those of the columns. `result` is None in lists.
    """

    delegation_id: str
    caller_id: UUID
    callee_id: UUID
    task_preview: str
    status: str
    failure_reason: str | None
    last_heartbeat: datetime | None
    deadline: datetime
    result_preview: str | None
    truncated: bool
    error_detail: str | None
    created_at: datetime
    updated_at: datetime
    progress_note: str | None
    progress_percent: int | None
    retry_count: int
    max_attempts: int
    retry_of: str | None
    result: str | None = None


_COLUMNS = ", ".join(DelegationRow._fields)
_LIST_COLUMNS = ", ".join(DelegationRow._fields[:-1])


# The ledger outlives a purge, after which the id of a party may become another organisation's.
# Inside coalesce(), of which the planner expects every second row to hold: it expected one of 200
# of a plain comparison, and sorted all delegations of a workspace for a page.
_STILL_ITS_OWN = """
    coalesce(organization_id = (SELECT w.organization_id FROM workspaces w WHERE w.id = $1), true)
"""


async def get(pool: Pool, workspace_id: UUID, delegation_id: str) -> DelegationRow | None:
    """A delegation with its whole result; None when this workspace is no party of it."""
    row = await pool.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM delegations
        WHERE delegation_id = $2 AND $1 IN (caller_id, callee_id) AND {_STILL_ITS_OWN}
        """,
        workspace_id,
        delegation_id,
    )
    return None if row is None else DelegationRow(*row)


class DelegationQuery(NamedTuple):
    """Which delegations to list. `before` is the last row of the page before."""

    limit: int
    status: str | None = None
    direction: str | None = None
    before: tuple[datetime, str] | None = None


async def list_rows(pool: Pool, workspace_id: UUID, query: DelegationQuery) -> list[DelegationRow]:
    """Delegations of which this workspace is a party, newest first.

    Each side has its index: the newest rows of either are merged, at most twice `limit` are read.
    """
    sides = {"sent": ["caller_id"], "received": ["callee_id"]}.get(
        query.direction or "", ["caller_id", "callee_id"]
    )
    values: list[object] = [workspace_id, query.limit]
    extra = ""
    if query.status is not None:
        values.append(query.status)
        extra += f" AND status = ${len(values)}"
    if query.before is not None:
        values += query.before
        extra += f" AND (created_at, delegation_id) < (${len(values) - 1}, ${len(values)})"
    halves = [
        f"""
        (SELECT {_LIST_COLUMNS} FROM delegations WHERE {side} = $1 AND {_STILL_ITS_OWN} {extra}
         ORDER BY created_at DESC, delegation_id DESC LIMIT $2)
        """
        for side in sides
    ]
    rows = await pool.fetch(
        f"""
        SELECT * FROM ({" UNION ".join(halves)}) d
        ORDER BY created_at DESC, delegation_id DESC LIMIT $2
        """,
        *values,
    )
    return [DelegationRow(*row) for row in rows]


async def cancelled(pool: Pool, delegation_id: str, callee_id: UUID) -> bool:
    """Whether the caller of a delegation called it off."""
    found: bool | None = await pool.fetchval(
        """
        SELECT failure_reason = 'cancelled' FROM delegations
        WHERE delegation_id = $1 AND callee_id = $2
        """,
        delegation_id,
        callee_id,
    )
    return bool(found)


class Lapsed(NamedTuple):
    """A live delegation that is past its deadline (`overdue`), or whose agent fell silent."""

    delegation_id: str
    caller_id: UUID
    organization_id: UUID
    overdue: bool
    last_heartbeat: datetime | None


async def lapsed(pool: Pool, *, beat_before: datetime | None, limit: int) -> list[Lapsed]:
    """Live delegations past their deadline, or without a heartbeat since `beat_before`.

    A delegation that never had a heartbeat is left to its deadline. The statuses are written out:
    the partial indexes serve no parameter.
    """
    rows = await pool.fetch(
        """
        SELECT delegation_id, caller_id, organization_id, deadline < now() AS overdue,
               last_heartbeat
        FROM delegations
        WHERE status IN ('queued', 'dispatched', 'in_progress')
          AND (deadline < now() OR last_heartbeat < $1)
        ORDER BY delegation_id LIMIT $2
        """,
        beat_before,
        limit,
    )
    return [Lapsed(*row) for row in rows]


class Taken(NamedTuple):
    """A delegation that holds the id or the idempotency key of a draft.

    Args:
        old: whether the delegation is older than 24 hours, so that its key is free.
    """

    delegation_id: str
    caller_id: UUID
    status: str
    request_hash: bytes
    old: bool


_TAKEN = """
    SELECT delegation_id, caller_id, status, request_hash,
           created_at < now() - interval '24 hours' AS old
    FROM delegations
"""


async def id_holder(pool: Pool | Connection, draft: DelegationDraft) -> Taken | None:
    """The delegation of the draft's organisation that has the draft's id."""
    row = await pool.fetchrow(
        f"{_TAKEN} WHERE delegation_id = $1 AND organization_id = $2",
        draft.delegation_id,
        draft.organization_id,
    )
    return None if row is None else Taken(*row)


async def key_holder(pool: Pool | Connection, draft: DelegationDraft) -> Taken | None:
    """The delegation of the draft's caller and organisation that has the draft's key."""
    if draft.idempotency_key is None:
        return None
    row = await pool.fetchrow(
        f"{_TAKEN} WHERE caller_id = $1 AND idempotency_key = $2 AND organization_id = $3",
        draft.caller_id,
        draft.idempotency_key,
        draft.organization_id,
    )
    return None if row is None else Taken(*row)


class EndedDelegation(NamedTuple):
    """A delegation as a retry needs it.

    Args:
        request_body: the message that handed the task over, as JSON text; None when retention has
            deleted it.
        pushed: whether the callee is called at a URL now.
        parties_there: whether caller and callee are workspaces of its organisation still.
    """

    caller_id: UUID
    callee_id: UUID
    organization_id: UUID
    task_preview: str
    status: str
    max_attempts: int
    retry_backoff_seconds: int
    request_body: str | None
    deadline_seconds: int
    pushed: bool
    parties_there: bool


async def for_retry(
    pool: Pool, delegation_id: str, organization_id: UUID | None
) -> EndedDelegation | None:
    """The delegation of this id; of one organisation, or of any.

    Two organisations may use the same id when agents chose it. The platform handed over at most
    one of these delegations, and only that one can be retried: it comes first.
    """
    row = await pool.fetchrow(
        f"""
        SELECT d.caller_id, d.callee_id, d.organization_id, d.task_preview, d.status,
               d.max_attempts, d.retry_backoff_seconds, a.request_body,
               extract(epoch FROM d.deadline - d.created_at)::int AS deadline_seconds,
               coalesce({PUSHED}, false) AS pushed,
               d.organization_id = ALL (ARRAY[w.organization_id, c.organization_id]) IS TRUE
                   AS parties_there
        FROM delegations d LEFT JOIN activity_logs a ON a.id = d.item_id
        LEFT JOIN workspaces w ON w.id = d.callee_id
        LEFT JOIN workspaces c ON c.id = d.caller_id
        WHERE d.delegation_id = $1 AND ($2::uuid IS NULL OR d.organization_id = $2)
        ORDER BY d.item_id IS NULL LIMIT 1
        """,
        delegation_id,
        organization_id,
    )
    return None if row is None else EndedDelegation(*row)
