"""The columns of workspaces that the slice reads and writes, and who holds their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.month_spend import MONTH_SPEND
from molecule_grpc.db.pool import Connection, Pool


class ModelRow(NamedTuple):
    """What rows say of a workspace's model; None where nothing is said."""

    runtime: str
    own: str | None
    agent: str | None


class BudgetRow(NamedTuple):
    """Limit and spend in US cents; no limit is None."""

    limit: int | None
    spend: int


async def hold(
    conn: Connection, workspace_ids: Sequence[UUID], within: UUID | None
) -> dict[UUID, UUID]:
    """Lock live workspaces, in id order, until the transaction ends; the organisation of each.

    Args:
        within: the only organisation that they may be of; None for any.
    """
    rows = await conn.fetch(
        """
        SELECT id, organization_id FROM workspaces
        WHERE id = ANY($1::uuid[]) AND status <> 'removed'
          AND ($2::uuid IS NULL OR organization_id = $2)
        ORDER BY id FOR NO KEY UPDATE
        """,
        list(workspace_ids),
        within,
    )
    return {row["id"]: row["organization_id"] for row in rows}


async def model(pool: Pool, workspace_id: UUID, within: UUID | None) -> ModelRow | None:
    """What is said of the model of a live workspace; None when there is none."""
    row = await pool.fetchrow(
        """
        SELECT w.runtime, w.model, a.model
        FROM workspaces w LEFT JOIN agents a ON a.workspace_id = w.id AND a.removed_at IS NULL
        WHERE w.id = $1 AND w.status <> 'removed' AND ($2::uuid IS NULL OR w.organization_id = $2)
        """,
        workspace_id,
        within,
    )
    return None if row is None else ModelRow(*row)


async def forget_model(conn: Connection, workspace_id: UUID) -> None:
    """Forget with which model a workspace was created."""
    await conn.execute(
        "UPDATE workspaces SET model = NULL WHERE id = $1 AND model IS NOT NULL",
        workspace_id,
    )


async def budget(pool: Pool, workspace_id: UUID, within: UUID | None) -> BudgetRow | None:
    """Limit and spend of a live workspace; None when there is none."""
    row = await pool.fetchrow(
        f"""
        SELECT w.budget_limit, {MONTH_SPEND} FROM workspaces w
        WHERE w.id = $1 AND w.status <> 'removed' AND ($2::uuid IS NULL OR w.organization_id = $2)
        """,
        workspace_id,
        within,
    )
    return None if row is None else BudgetRow(*row)


async def set_budget(
    pool: Pool, workspace_id: UUID, within: UUID | None, limit: int | None
) -> BudgetRow | None:
    """Limit the spend of a live workspace; None when there is none."""
    row = await pool.fetchrow(
        f"""
        UPDATE workspaces w SET budget_limit = $3, updated_at = now()
        WHERE w.id = $1 AND w.status <> 'removed' AND ($2::uuid IS NULL OR w.organization_id = $2)
        RETURNING w.budget_limit, {MONTH_SPEND}
        """,
        workspace_id,
        within,
        limit,
    )
    return None if row is None else BudgetRow(*row)
