"""The SQL that reads the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.delegation.ledger.store.accept import DelegationDraft
from molecule_grpc.delegation.ledger.store.fragments import PUSHED


class Lapsed(NamedTuple):
    """A live delegation that nobody will finish."""

    delegation_id: str
    caller_id: UUID
    overdue: bool
    last_heartbeat: datetime | None


async def lapsed(pool: Pool, *, beat_before: datetime | None, limit: int) -> list[Lapsed]:
    """Live delegations past their deadline, or silent since `beat_before`.

    One that has never shown a beat is left to its deadline. The statuses are spelled out, so that
    the partial indexes serve.
    """
    rows = await pool.fetch(
        """
        SELECT delegation_id, caller_id, deadline < now() AS overdue, last_heartbeat
        FROM delegations
        WHERE status IN ('queued', 'dispatched', 'in_progress')
          AND (deadline < now() OR last_heartbeat < $1)
        ORDER BY delegation_id LIMIT $2
        """,
        beat_before,
        limit,
    )
    return [Lapsed(*row) for row in rows]


_PARTY = """
    delegation_id, caller_id, callee_id, task_preview, status, failure_reason, last_heartbeat,
    deadline, result_preview, truncated, error_detail, created_at, updated_at, progress_note,
    progress_percent, retry_count, max_attempts, retry_of
"""


async def get(pool: Pool, workspace_id: UUID, delegation_id: str) -> asyncpg.Record | None:
    """A delegation of which this workspace is a party, with its whole result."""
    return await pool.fetchrow(
        f"""
        SELECT {_PARTY}, result FROM delegations
        WHERE delegation_id = $2 AND $1 IN (caller_id, callee_id)
        """,
        workspace_id,
        delegation_id,
    )


async def cancelled(pool: Pool, delegation_id: str, callee_id: UUID) -> bool:
    """Whether a delegation was called off."""
    found: bool | None = await pool.fetchval(
        """
        SELECT failure_reason = 'cancelled' FROM delegations
        WHERE delegation_id = $1 AND callee_id = $2
        """,
        delegation_id,
        callee_id,
    )
    return bool(found)


async def find_taken(
    pool: Pool | Connection, draft: DelegationDraft
) -> tuple[asyncpg.Record | None, asyncpg.Record | None]:
    """What stands in a draft's way: the row with its id, and the row with its caller's key."""
    columns_ = (
        f"{_PARTY}, idempotency_key, request_hash, created_at < now() - interval '24 hours' AS old"
    )
    by_id = await pool.fetchrow(
        f"SELECT {columns_} FROM delegations WHERE delegation_id = $1 AND organization_id = $2",
        draft.delegation_id,
        draft.organization_id,
    )
    by_key = None
    if draft.idempotency_key is not None:
        by_key = await pool.fetchrow(
            f"SELECT {columns_} FROM delegations WHERE caller_id = $1 AND idempotency_key = $2",
            draft.caller_id,
            draft.idempotency_key,
        )
    return by_id, by_key


async def for_retry(
    pool: Pool, delegation_id: str, organization_id: UUID | None
) -> asyncpg.Record | None:
    """What is needed to try a delegation again; `request_body` is None when it was pruned.

    Of two organisations' delegations of one id at most one was handed over, which is what can be
    tried again: the id of the other was an agent's choice.
    """
    return await pool.fetchrow(
        f"""
        SELECT d.caller_id, d.callee_id, d.organization_id, d.task_preview, d.status,
               d.max_attempts, d.retry_backoff_seconds, a.request_body,
               extract(epoch FROM d.deadline - d.created_at)::int AS deadline_seconds,
               coalesce({PUSHED}, false) AS pushed
        FROM delegations d LEFT JOIN activity_logs a ON a.id = d.item_id
        LEFT JOIN workspaces w ON w.id = d.callee_id
        WHERE d.delegation_id = $1 AND ($2::uuid IS NULL OR d.organization_id = $2)
        ORDER BY d.item_id IS NULL LIMIT 1
        """,
        delegation_id,
        organization_id,
    )


class DelegationQuery(NamedTuple):
    """Which delegations to list. `before` is the last row of the page before."""

    limit: int
    status: str | None = None
    direction: str | None = None
    before: tuple[datetime, str] | None = None


async def list_rows(pool: Pool, workspace_id: UUID, page: DelegationQuery) -> list[asyncpg.Record]:
    """Delegations of which this workspace is a party, newest first.

    Each side has its index: the newest of either are merged, never more than two pages read.
    """
    sides = {"sent": ["caller_id"], "received": ["callee_id"]}.get(
        page.direction or "", ["caller_id", "callee_id"]
    )
    values: list[object] = [workspace_id, page.limit]
    extra = ""
    if page.status is not None:
        values.append(page.status)
        extra += f" AND status = ${len(values)}"
    if page.before is not None:
        values += page.before
        extra += f" AND (created_at, delegation_id) < (${len(values) - 1}, ${len(values)})"
    halves = [
        f"""
        (SELECT {_PARTY} FROM delegations WHERE {side} = $1 {extra}
         ORDER BY created_at DESC, delegation_id DESC LIMIT $2)
        """
        for side in sides
    ]
    return await pool.fetch(
        f"""
        SELECT * FROM ({" UNION ".join(halves)}) d
        ORDER BY created_at DESC, delegation_id DESC LIMIT $2
        """,
        *values,
    )
