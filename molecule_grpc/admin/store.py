"""The SQL of operators: organisations, their tokens, and the ledger as a whole."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from molecule_grpc.auth.store import announce
from molecule_grpc.auth.tokens import Secret, mint
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.kernel.ids import new_id

DEFAULT_ORGANIZATION = UUID("00000000-0000-7000-8000-000000000001")
MAX_ORG_TOKENS_LISTED = 500

_ORGANIZATION = "id, slug, name, created_at"
_ORG_TOKEN = "id, prefix, name, organization_id, created_by, created_at, last_used_at"
_ENTRY = """
    delegation_id, caller_id, callee_id, task_preview, status, last_heartbeat, deadline,
    result_preview, error_detail, retry_count, created_at, updated_at, failure_reason
"""
# Written out, so that the planner sees that a partial index covers them.
_FILTERS = {
    "in_flight": "status IN ('queued', 'dispatched', 'in_progress')",
    "stuck": "status = 'stuck'",
    "failed": "status = 'failed'",
    "completed": "status = 'completed'",
}
FILTERS = tuple(_FILTERS)
_LEDGER = {
    name: f"""
        SELECT {_ENTRY} FROM delegations
        WHERE {condition} AND ($1::uuid IS NULL OR organization_id = $1)
        ORDER BY created_at DESC, delegation_id DESC LIMIT $2
    """
    for name, condition in _FILTERS.items()
}


async def insert_organization(pool: Pool, slug: str, name: str) -> asyncpg.Record | None:
    """A new organisation; None when the slug is taken."""
    return await pool.fetchrow(
        f"""
        INSERT INTO organizations (id, slug, name) VALUES ($1, $2, $3)
        ON CONFLICT (slug) DO NOTHING RETURNING {_ORGANIZATION}
        """,
        new_id(),
        slug,
        name,
    )


async def list_organizations(pool: Pool) -> list[asyncpg.Record]:
    """Every organisation, oldest first."""
    return await pool.fetch(f"SELECT {_ORGANIZATION} FROM organizations ORDER BY created_at, id")


async def mint_org_token(
    pool: Pool, organization_id: UUID, *, name: str, created_by: str
) -> tuple[asyncpg.Record, Secret] | None:
    """Store a new token of an organisation; None when there is no such organisation."""
    secret = mint()
    row = await pool.fetchrow(
        f"""
        INSERT INTO org_api_tokens (id, organization_id, token_hash, prefix, name, created_by)
        SELECT $1, id, $3, $4, $5, $6 FROM organizations WHERE id = $2
        RETURNING {_ORG_TOKEN}
        """,
        new_id(),
        organization_id,
        secret.digest,
        secret.prefix,
        name,
        created_by,
    )
    return None if row is None else (row, secret)


async def list_org_tokens(pool: Pool, organization_id: UUID | None) -> list[asyncpg.Record]:
    """Live tokens, newest first; of one organisation, or of all."""
    return await pool.fetch(
        f"""
        SELECT {_ORG_TOKEN} FROM org_api_tokens
        WHERE revoked_at IS NULL AND ($1::uuid IS NULL OR organization_id = $1)
        ORDER BY created_at DESC, id DESC LIMIT {MAX_ORG_TOKENS_LISTED}
        """,
        organization_id,
    )


async def revoke_org_token(conn: Connection, token_id: UUID, organization_id: UUID | None) -> bool:
    """End a token. False when it is not live, or not of this organisation."""
    digest = await conn.fetchval(
        """
        UPDATE org_api_tokens SET revoked_at = now()
        WHERE id = $1 AND revoked_at IS NULL AND ($2::uuid IS NULL OR organization_id = $2)
        RETURNING token_hash
        """,
        token_id,
        organization_id,
    )
    if digest is None:
        return False
    await announce(conn, [digest])
    return True


async def hold_workspace(conn: Connection, workspace_id: UUID) -> bool:
    """Keep a live workspace from being removed until the transaction ends. False when gone."""
    found = await conn.fetchval(
        "SELECT id FROM workspaces WHERE id = $1 AND status <> 'removed' FOR NO KEY UPDATE",
        workspace_id,
    )
    return found is not None


async def list_delegations(
    pool: Pool, wanted: str, organization_id: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """The ledger through one of `FILTERS`, newest first; of one organisation, or of all."""
    return await pool.fetch(_LEDGER[wanted], organization_id, limit)


async def count_delegations(pool: Pool, organization_id: UUID | None) -> dict[str, int]:
    """How many delegations there are of each status that occurs."""
    rows = await pool.fetch(
        """
        SELECT status, count(*) AS number FROM delegations
        WHERE $1::uuid IS NULL OR organization_id = $1 GROUP BY status
        """,
        organization_id,
    )
    return {row["status"]: row["number"] for row in rows}
