"""The SQL that tells what became of delegations of workspaces to themselves."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.ledger.rules import EMPTY_ANSWER
from molecule_grpc.delegation.ledger.store.fragments import FINAL_STATUSES, PUSHED


class EndedFire(NamedTuple):
    """A delegation that has ended.

    Args:
        error: why it failed; empty for a success.
        empty: whether the agent said nothing.
    """

    delegation_id: UUID
    error: str
    empty: bool
    ended_at: datetime


async def undelivered(pool: Pool, delegation_ids: Collection[UUID]) -> set[UUID]:
    """Those whose task is in the queue of an agent with a URL, or in the inbox of one that is away.

    What an agent that is there has read is known of a newer client alone: such a task counts as
    delivered.
    """
    rows = await pool.fetch(
        f"""
        SELECT d.delegation_id FROM delegations d JOIN workspaces w ON w.id = d.callee_id
        WHERE d.delegation_id = ANY($1::text[]) AND d.caller_id = d.callee_id
          AND d.status = 'queued' AND ({PUSHED} OR w.status NOT IN ('online', 'degraded'))
        """,
        [str(each) for each in delegation_ids],
    )
    return {UUID(row["delegation_id"]) for row in rows}


async def ended(pool: Pool, delegation_ids: Collection[UUID]) -> list[EndedFire]:
    """Those that have ended."""
    rows = await pool.fetch(
        f"""
        SELECT d.delegation_id, d.status, d.failure_reason, d.error_detail, d.updated_at,
               CASE d.status WHEN 'completed' THEN coalesce(btrim(d.result_preview), '') = ''
                             ELSE coalesce(d.error_detail, '') = $2 END AS empty
        FROM delegations d
        WHERE d.delegation_id = ANY($1::text[]) AND d.caller_id = d.callee_id
          AND d.status IN ({FINAL_STATUSES})
        """,
        [str(each) for each in delegation_ids],
        EMPTY_ANSWER,
    )
    return [
        EndedFire(
            UUID(row["delegation_id"]),
            "" if row["status"] == "completed" else row["error_detail"] or row["status"],
            row["empty"],
            row["updated_at"],
        )
        for row in rows
    ]
