"""Namespaces of the built-in store as a server of the contract."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool


class NamespaceRow(NamedTuple):
    """A namespace."""

    name: str
    kind: str
    created_at: datetime
    expires_at: datetime | None
    metadata: str | None


_NAMESPACE = "name, kind, created_at, expires_at, metadata"
_PUT_NAMESPACE = f"""
    INSERT INTO memory_namespaces AS n (organization_id, name, kind, expires_at, metadata)
    VALUES ($1, $2, $3, $4, $5::jsonb)
    ON CONFLICT (organization_id, name) DO UPDATE
    SET expires_at = CASE WHEN $6 THEN excluded.expires_at ELSE n.expires_at END,
        metadata = CASE WHEN $7 THEN excluded.metadata ELSE n.metadata END
    WHERE n.kind = excluded.kind
    RETURNING {_NAMESPACE}
"""
_PATCH_NAMESPACE = f"""
    UPDATE memory_namespaces
    SET expires_at = CASE WHEN $5 THEN $3 ELSE expires_at END,
        metadata = CASE WHEN $6 THEN $4::jsonb ELSE metadata END
    WHERE organization_id = $1 AND name = $2
    RETURNING {_NAMESPACE}
"""
_LOCK_NAMESPACE = """
    SELECT language::text FROM memory_namespaces
    WHERE organization_id = $1 AND name = $2 AND (expires_at IS NULL OR expires_at > now())
    FOR NO KEY UPDATE
"""


async def put_namespace(
    conn: Connection | Pool,
    organization_id: UUID,
    name: str,
    kind: str,
    expires_at: tuple[bool, datetime | None],
    metadata: tuple[bool, str | None],
) -> NamespaceRow | None:
    """Make or change a namespace; None if it has another kind.

    Args:
        expires_at: whether it was sent, and what.
        metadata: whether it was sent, and its JSON text.
    """
    row = await conn.fetchrow(
        _PUT_NAMESPACE,
        organization_id,
        name,
        kind,
        expires_at[1],
        metadata[1],
        expires_at[0],
        metadata[0],
    )
    return None if row is None else NamespaceRow(*row)


async def patch_namespace(
    conn: Connection | Pool,
    organization_id: UUID,
    name: str,
    expires_at: tuple[bool, datetime | None],
    metadata: tuple[bool, str | None],
) -> NamespaceRow | None:
    """Change a namespace; None without it."""
    row = await conn.fetchrow(
        _PATCH_NAMESPACE,
        organization_id,
        name,
        expires_at[1],
        metadata[1],
        expires_at[0],
        metadata[0],
    )
    return None if row is None else NamespaceRow(*row)


async def lock_namespace(conn: Connection, organization_id: UUID, name: str) -> str | None:
    """Lock a namespace for a write; its language, None without it."""
    found: str | None = await conn.fetchval(_LOCK_NAMESPACE, organization_id, name)
    return found
