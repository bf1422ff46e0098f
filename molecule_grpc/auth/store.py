"""The SQL of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from molecule_grpc.auth.principal import OPERATOR, Principal, Role
from molecule_grpc.auth.tokens import FULL_TERMS, Secret, TokenTerms, mint
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.quotas import UNLIMITED, Quota

CHANNEL = "molecule_tokens"
PURGED_CHANNEL = "molecule_purged"

# Of a row of either table of tokens.
LIVE = "(revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()))"

_FIND = """
    SELECT 'workspace' AS role, t.id, t.prefix, w.organization_id, t.workspace_id,
           t.revoked_at IS NOT NULL OR t.expires_at <= now() AS revoked,
           w.status = 'removed' AS removed, t.read_only, t.expires_at
    FROM workspace_auth_tokens t JOIN workspaces w ON w.id = t.workspace_id
    WHERE t.token_hash = $1
    UNION ALL
    SELECT 'organization', t.id, t.prefix, t.organization_id, NULL,
           t.revoked_at IS NOT NULL OR t.expires_at <= now(), false, t.read_only, t.expires_at
    FROM org_api_tokens t WHERE t.token_hash = $1
    UNION ALL
    SELECT 'operator', NULL, '', NULL, NULL, false, false, false, NULL
    FROM operator_tokens WHERE token_hash = $1
"""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """The visible part of a stored token."""

    id: UUID
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    read_only: bool
    expires_at: datetime | None


_TOKEN = "id, prefix, created_at, last_used_at, read_only, expires_at"


async def find(pool: Pool, token_hash: bytes) -> Principal | None:
    """The holder of a token, marked where the token has ended; None when the token is unknown."""
    row = await pool.fetchrow(_FIND, token_hash)
    if row is None:
        return None
    if row["role"] == "operator":
        return OPERATOR
    if row["removed"]:
        return Principal(Role.ANONYMOUS, revoked_workspace=row["workspace_id"])
    if row["revoked"]:
        return Principal(
            Role.ANONYMOUS,
            organization_id=row["organization_id"],
            prefix=row["prefix"],
            ended=True,
        )
    return Principal(
        Role(row["role"]),
        organization_id=row["organization_id"],
        workspace_id=row["workspace_id"],
        token_id=row["id"],
        prefix=row["prefix"],
        read_only=row["read_only"],
        expires_at=row["expires_at"],
    )


async def live(pool: Pool, digests: list[bytes]) -> set[bytes]:
    """Those of these tokens that are live: stored, not revoked, of a workspace that exists."""
    rows = await pool.fetch(
        f"""
        SELECT t.token_hash FROM workspace_auth_tokens t JOIN workspaces w ON w.id = t.workspace_id
        WHERE t.token_hash = ANY($1) AND {LIVE} AND w.status <> 'removed'
        UNION ALL
        SELECT token_hash FROM org_api_tokens WHERE token_hash = ANY($1) AND {LIVE}
        UNION ALL
        SELECT token_hash FROM operator_tokens WHERE token_hash = ANY($1)
        """,
        digests,
    )
    return {row["token_hash"] for row in rows}


async def touch(pool: Pool, token_ids: list[UUID]) -> None:
    """Stamp the last use of tokens."""
    await pool.execute(
        """
        WITH workspace AS (
            UPDATE workspace_auth_tokens SET last_used_at = now() WHERE id = ANY($1)
        )
        UPDATE org_api_tokens SET last_used_at = now() WHERE id = ANY($1)
        """,
        token_ids,
    )


async def organization_of(pool: Pool, workspace_id: UUID) -> UUID | None:
    """The organisation that owns a workspace; None when the workspace does not exist."""
    found: UUID | None = await pool.fetchval(
        "SELECT organization_id FROM workspaces WHERE id = $1", workspace_id
    )
    return found


async def owns(pool: Pool, organization_id: UUID, workspace_id: UUID) -> bool:
    """Whether an organisation owns a workspace."""
    found: bool = await pool.fetchval(
        "SELECT EXISTS (SELECT FROM workspaces WHERE id = $1 AND organization_id = $2)",
        workspace_id,
        organization_id,
    )
    return found


async def any_token_live(pool: Pool) -> bool:
    """Whether any workspace or organisation has a live token."""
    found: bool = await pool.fetchval(
        f"""
        SELECT EXISTS (SELECT FROM workspace_auth_tokens WHERE {LIVE})
            OR EXISTS (SELECT FROM org_api_tokens WHERE {LIVE})
        """
    )
    return found


async def mint_workspace_token(
    conn: Connection, workspace_id: UUID, terms: TokenTerms = FULL_TERMS
) -> tuple[TokenRow, Secret]:
    """Store a new token of a workspace."""
    secret = mint()
    row = await conn.fetchrow(
        f"""
        INSERT INTO workspace_auth_tokens
            (id, workspace_id, token_hash, prefix, read_only, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6) RETURNING {_TOKEN}
        """,
        new_id(),
        workspace_id,
        secret.digest,
        secret.prefix,
        terms.read_only,
        terms.expires_at,
    )
    assert row is not None
    return TokenRow(*row), secret


async def require_token_room(conn: Connection, workspace_id: UUID, quota: Quota) -> None:
    """Raise unless a workspace may have one more live token. Locks as `count_workspace_tokens`.

    Raises:
        Exhausted: TOO_MANY_TOKENS.
    """
    live = await count_workspace_tokens(conn, workspace_id)
    if quota.exceeded(live):
        raise quota.refusal(workspace_id, metadata={"max": str(quota.limit)})


async def count_workspace_tokens(conn: Connection, workspace_id: UUID) -> int:
    """How many live tokens a workspace has. Locks the workspace against a concurrent mint."""
    await conn.execute("SELECT FROM workspaces WHERE id = $1 FOR NO KEY UPDATE", workspace_id)
    return await live_workspace_tokens(conn, workspace_id)


async def live_workspace_tokens(conn: Connection | Pool, workspace_id: UUID) -> int:
    """How many live tokens a workspace has now."""
    count: int = await conn.fetchval(
        f"""
        SELECT count(*) FROM workspace_auth_tokens
        WHERE workspace_id = $1 AND {LIVE}
        """,
        workspace_id,
    )
    return count


async def live_org_tokens(
    conn: Connection | Pool, organization_id: UUID, *, most: int = UNLIMITED
) -> int:
    """How many live tokens administer an organisation, counted up to `most` of them."""
    found: int = await conn.fetchval(
        f"""
        SELECT count(*) FROM (
            SELECT FROM org_api_tokens WHERE organization_id = $1 AND {LIVE} LIMIT $2
        ) live
        """,
        organization_id,
        most,
    )
    return found


async def list_workspace_tokens(
    pool: Pool,
    workspace_id: UUID,
    *,
    limit: int,
    offset: int = 0,
    before: tuple[datetime, UUID] | None = None,
) -> list[TokenRow]:
    """Live tokens, newest first.

    Args:
        before: only tokens behind this time of creation and id.
    """
    rows = await pool.fetch(
        f"""
        SELECT {_TOKEN} FROM workspace_auth_tokens
        WHERE workspace_id = $1 AND {LIVE}
            AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::uuid))
        ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3
        """,
        workspace_id,
        limit,
        offset,
        *(before or (None, None)),
    )
    return [TokenRow(*row) for row in rows]


async def revoke_workspace_token(
    conn: Connection, workspace_id: UUID, within: UUID | None, token_id: UUID
) -> bool:
    """Revoke one token. False when the token is not live or not of this workspace.

    Args:
        within: the only organisation that the workspace may be of; None for any.
    """
    digest = await conn.fetchval(
        """
        UPDATE workspace_auth_tokens t SET revoked_at = now()
        FROM workspaces w
        WHERE t.id = $1 AND t.workspace_id = $2 AND t.revoked_at IS NULL
          AND w.id = t.workspace_id AND ($3::uuid IS NULL OR w.organization_id = $3)
        RETURNING t.token_hash
        """,
        token_id,
        workspace_id,
        within,
    )
    if digest is None:
        return False
    await announce(conn, [digest])
    return True


async def revoke_workspace_tokens(
    conn: Connection, workspace_ids: list[UUID], *, before: datetime | None = None
) -> None:
    """Revoke every token of these workspaces, or those that were minted before a time."""
    rows = await conn.fetch(
        """
        UPDATE workspace_auth_tokens SET revoked_at = now()
        WHERE workspace_id = ANY($1) AND revoked_at IS NULL
          AND ($2::timestamptz IS NULL OR created_at < $2)
        RETURNING token_hash
        """,
        workspace_ids,
        before,
    )
    await announce(conn, [row["token_hash"] for row in rows])


async def announce(conn: Connection, digests: list[bytes]) -> None:
    """Make every worker forget these tokens when the transaction commits."""
    for digest in digests:
        await conn.execute("SELECT pg_notify($1, $2)", CHANNEL, digest.hex())


async def announce_purged(conn: Connection, workspace_ids: list[UUID]) -> None:
    """Make every worker forget whose these workspaces were when the transaction commits."""
    await conn.execute(
        "SELECT pg_notify($1, id::text) FROM unnest($2::uuid[]) id", PURGED_CHANNEL, workspace_ids
    )


async def insert_operator_token(conn: Connection, digest: bytes) -> bool:
    """Store the operator's token, once. False when the table has one already."""
    status = await conn.execute(
        """
        INSERT INTO operator_tokens (token_hash)
        SELECT $1 WHERE NOT EXISTS (SELECT FROM operator_tokens)
        """,
        digest,
    )
    return bool(status == "INSERT 0 1")
