"""The SQL of workspaces as far as files need it: how to reach them, and whether they are there."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool


class Target(NamedTuple):
    """Who gets files.

    Args:
        mode: how messages reach it, as stored: None in rows of old installations.
        url: where its agent listens; empty for nowhere.
        secret: what the platform shows to it; empty when there is none yet.
    """

    id: UUID
    organization_id: UUID
    mode: str | None
    url: str
    secret: str


async def find(pool: Pool, workspace_id: UUID) -> Target | None:
    """A workspace that is not removed."""
    row = await pool.fetchrow(
        """
        SELECT id, organization_id, delivery_mode, url, coalesce(platform_inbound_secret, '')
        FROM workspaces WHERE id = $1 AND status <> 'removed'
        """,
        workspace_id,
    )
    return None if row is None else Target(*row)


async def hold(conn: Connection, workspace_id: UUID) -> bool:
    """Keep a workspace from being removed until the transaction ends; False when it is gone."""
    found = await conn.fetchval(
        "SELECT true FROM workspaces WHERE id = $1 AND status <> 'removed' FOR SHARE", workspace_id
    )
    return bool(found)


async def give_secret(pool: Pool, workspace_id: UUID, secret: str) -> None:
    """Store a secret for a workspace that has none."""
    await pool.execute(
        """
        UPDATE workspaces SET platform_inbound_secret = $2
        WHERE id = $1 AND coalesce(platform_inbound_secret, '') = ''
        """,
        workspace_id,
        secret,
    )
