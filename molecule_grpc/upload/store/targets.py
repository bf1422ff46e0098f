"""The SQL of workspaces that uploads need: how to reach a workspace, and whether it is there."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import URL_BY_ENGINE


class UploadTarget(NamedTuple):
    """A workspace that files are for.

    Args:
        mode: its delivery mode in force; None where nothing was stated and no agent has come.
        url: where its agent listens; empty for nowhere.
        secret: the bearer token that proves the platform to the agent; empty when there is none.
        engine_url: whether the engine that runs the agent says where it listens.
    """

    id: UUID
    organization_id: UUID
    mode: str | None
    url: str
    secret: str
    engine_url: bool


async def find(pool: Pool, workspace_id: UUID) -> UploadTarget | None:
    """A workspace; None when it is unknown or removed."""
    row = await pool.fetchrow(
        f"""
        SELECT id, organization_id,
               CASE WHEN delivery_mode IS NOT NULL OR url <> '' OR mode_in_force = 'poll'
                    THEN mode_in_force END,
               url, coalesce(platform_inbound_secret, ''),
               {URL_BY_ENGINE} AND resource_id <> ''
        FROM workspaces WHERE id = $1 AND status <> 'removed'
        """,
        workspace_id,
    )
    return None if row is None else UploadTarget(*row)


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
