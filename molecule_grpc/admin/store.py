"""The SQL of operators: organisations, their tokens, and kept events."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from molecule_grpc.admin.values import MintedOrgToken, Organization, OrgToken
from molecule_grpc.auth.store import LIVE, announce
from molecule_grpc.auth.tokens import TokenTerms, mint
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.events import store as event_store
from molecule_grpc.events.values import Position, Scope, StoredEvent
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.page import Page

# Where a list goes on: time of creation and id of the last row seen.
Place = tuple[datetime, UUID]

_ORGANIZATION = ", ".join(Organization._fields)
_ORG_TOKEN = ", ".join(OrgToken._fields)


async def insert_organization(pool: Pool, slug: str, name: str) -> Organization | None:
    """A new organisation; None when the slug is taken."""
    row = await pool.fetchrow(
        f"""
        INSERT INTO organizations (id, slug, name) VALUES ($1, $2, $3)
        ON CONFLICT (slug) DO NOTHING RETURNING {_ORGANIZATION}
        """,
        new_id(),
        slug,
        name,
    )
    return None if row is None else Organization(*row)


async def list_organizations(pool: Pool, *, after: Place | None, limit: int) -> list[Organization]:
    """Organisations behind a place, oldest first."""
    rows = await pool.fetch(
        f"""
        SELECT {_ORGANIZATION} FROM organizations
        WHERE $1::timestamptz IS NULL OR (created_at, id) > ($1, $2::uuid)
        ORDER BY created_at, id LIMIT $3
        """,
        *(after or (None, None)),
        limit,
    )
    return [Organization(*row) for row in rows]


async def hold_organization(conn: Connection, organization_id: UUID) -> bool:
    """Keep others from adding to an organisation until the transaction ends; False for none."""
    found = await conn.fetchval(
        "SELECT id FROM organizations WHERE id = $1 FOR NO KEY UPDATE", organization_id
    )
    return found is not None


async def mint_org_token(
    conn: Connection, organization_id: UUID, *, name: str, created_by: str, terms: TokenTerms
) -> MintedOrgToken:
    """Store a new token of an organisation."""
    secret = mint()
    row = await conn.fetchrow(
        f"""
        INSERT INTO org_api_tokens
            (id, organization_id, token_hash, prefix, name, created_by, read_only, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        RETURNING {_ORG_TOKEN}
        """,
        new_id(),
        organization_id,
        secret.digest,
        secret.prefix,
        name,
        created_by,
        terms.read_only,
        terms.expires_at,
    )
    assert row is not None
    return MintedOrgToken(OrgToken(*row), secret)


async def list_org_tokens(
    pool: Pool, organization_id: UUID | None, *, before: Place | None, limit: int
) -> list[OrgToken]:
    """Live tokens behind a place, newest first; of one organisation, or of all."""
    rows = await pool.fetch(
        f"""
        SELECT {_ORG_TOKEN} FROM org_api_tokens
        WHERE {LIVE} AND ($1::uuid IS NULL OR organization_id = $1)
            AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
        ORDER BY created_at DESC, id DESC LIMIT $4
        """,
        organization_id,
        *(before or (None, None)),
        limit,
    )
    return [OrgToken(*row) for row in rows]


async def revoke_org_token(conn: Connection, token_id: UUID, organization_id: UUID | None) -> bool:
    """End a token; False when it is not live, or another organisation's."""
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
    """Keep a workspace from being removed until the transaction ends; False when it is gone."""
    found = await conn.fetchval(
        "SELECT id FROM workspaces WHERE id = $1 AND status <> 'removed' FOR NO KEY UPDATE",
        workspace_id,
    )
    return found is not None


async def newest_events(
    pool: Pool,
    organization_id: UUID | None,
    workspace_id: UUID | None,
    *,
    before: Position | None,
    limit: int,
) -> Page[StoredEvent]:
    """Kept events behind a place, newest first; None leaves a filter out."""
    scope = Scope(organization_id, workspace_id, ())
    return await event_store.newest(pool, scope, before=before, limit=limit)
