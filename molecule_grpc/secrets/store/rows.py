"""Rows of secrets. Values enter and leave sealed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.secrets.owner import INSTALLATION_ID, Owner, Scope
from molecule_grpc.secrets.sealing import Sealed

# Of a workspace's three owners the nearest one's value wins.
_OWNERS: Final = f"""
    SELECT w.id AS owner_id, 1 AS distance FROM workspaces w WHERE w.id = $1
    UNION ALL SELECT w.organization_id, 2 FROM workspaces w WHERE w.id = $1
    UNION ALL SELECT '{INSTALLATION_ID}'::uuid, 3
"""
_SCOPES: Final = {1: Scope.WORKSPACE, 2: Scope.ORGANIZATION, 3: Scope.GLOBAL}


class SecretRow(NamedTuple):
    """A secret without its value."""

    key: str
    scope: Scope
    created_at: datetime
    updated_at: datetime


class SealedRow(NamedTuple):
    """A secret as it is stored."""

    owner_id: UUID
    key: str
    sealed: Sealed


async def lock(conn: Connection, owner: Owner) -> None:
    """Let no other writer of the owner's secrets in until the transaction ends."""
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('secrets ' || $1::uuid, 0))", owner.id
    )


async def sizes(conn: Connection, owner: Owner) -> dict[str, int]:
    """The names of an owner's own secrets, and the bytes that each takes as it is stored."""
    rows = await conn.fetch(
        "SELECT key, octet_length(sealed) AS bytes FROM secrets WHERE owner_id = $1", owner.id
    )
    return {row["key"]: row["bytes"] for row in rows}


async def live_organization(conn: Connection, workspace_id: UUID) -> UUID | None:
    """The organisation of a workspace, held against its removal; None when it is not live."""
    found: UUID | None = await conn.fetchval(
        """
        SELECT organization_id FROM workspaces WHERE id = $1 AND status <> 'removed'
        FOR KEY SHARE
        """,
        workspace_id,
    )
    return found


async def is_organization(conn: Connection, organization_id: UUID) -> bool:
    """Whether there is such an organisation."""
    found = await conn.fetchval("SELECT true FROM organizations WHERE id = $1", organization_id)
    return found is not None


async def put(conn: Connection, owner: Owner, key: str, sealed: Sealed) -> None:
    """Store a secret in the place of what was there."""
    await conn.execute(
        """
        INSERT INTO secrets (organization_id, workspace_id, key, sealed, key_id)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (owner_id, key) DO UPDATE
        SET sealed = excluded.sealed, key_id = excluded.key_id, updated_at = now()
        """,
        owner.organization_id,
        owner.workspace_id,
        key,
        sealed.data,
        sealed.key_id,
    )


async def delete(conn: Connection, owner: Owner, key: str) -> bool:
    """Delete an owner's secret. False when there is none."""
    found = await conn.fetchval(
        "DELETE FROM secrets WHERE owner_id = $1 AND key = $2 RETURNING true", owner.id, key
    )
    return found is not None


async def of_workspace(pool: Pool, workspace_id: UUID) -> list[SecretRow]:
    """What a workspace is started with, by name: its own, else inherited."""
    rows = await pool.fetch(
        f"""
        SELECT DISTINCT ON (s.key COLLATE "C") s.key, o.distance, s.created_at, s.updated_at
        FROM ({_OWNERS}) o JOIN secrets s USING (owner_id)
        ORDER BY s.key COLLATE "C", o.distance
        """,
        workspace_id,
    )
    return [
        SecretRow(row["key"], _SCOPES[row["distance"]], row["created_at"], row["updated_at"])
        for row in rows
    ]


async def of_owner(pool: Pool, owner: Owner) -> list[SecretRow]:
    """An owner's own secrets, by name."""
    rows = await pool.fetch(
        """
        SELECT key, created_at, updated_at FROM secrets WHERE owner_id = $1
        ORDER BY key COLLATE "C"
        """,
        owner.id,
    )
    return [
        SecretRow(row["key"], owner.scope, row["created_at"], row["updated_at"]) for row in rows
    ]


async def sealed_of_workspace(pool: Pool | Connection, workspace_id: UUID) -> list[SealedRow]:
    """The values that a workspace is started with."""
    rows = await pool.fetch(
        f"""
        SELECT DISTINCT ON (s.key COLLATE "C") s.owner_id, s.key, s.sealed, s.key_id
        FROM ({_OWNERS}) o JOIN secrets s USING (owner_id)
        ORDER BY s.key COLLATE "C", o.distance
        """,
        workspace_id,
    )
    return [_sealed(row) for row in rows]


async def nearest(pool: Pool, workspace_id: UUID, key: str) -> tuple[SealedRow, Scope] | None:
    """A sealed secret of a workspace's start, and its owner's scope; None for an unset secret."""
    row = await pool.fetchrow(
        f"""
        SELECT s.owner_id, s.key, s.sealed, s.key_id, o.distance
        FROM ({_OWNERS}) o JOIN secrets s USING (owner_id) WHERE s.key = $2
        ORDER BY o.distance LIMIT 1
        """,
        workspace_id,
        key,
    )
    if row is None:
        return None
    return _sealed(row), _SCOPES[row["distance"]]


async def own(conn: Connection, owner: Owner, key: str) -> SealedRow | None:
    """An owner's own value; None when there is none."""
    row = await conn.fetchrow(
        "SELECT owner_id, key, sealed, key_id FROM secrets WHERE owner_id = $1 AND key = $2",
        owner.id,
        key,
    )
    return None if row is None else _sealed(row)


def _sealed(row: asyncpg.Record) -> SealedRow:
    return SealedRow(row["owner_id"], row["key"], Sealed(row["sealed"], row["key_id"]))


async def sealed_otherwise(
    conn: Connection, key_id: bytes, behind: tuple[UUID, str], limit: int
) -> Sequence[SealedRow]:
    """Secrets that another key has sealed, locked, in order, behind a place in that order."""
    rows = await conn.fetch(
        """
        SELECT owner_id, key, sealed, key_id FROM secrets
        WHERE key_id <> $1 AND (owner_id, key) > ($2, $3)
        ORDER BY owner_id, key LIMIT $4 FOR UPDATE
        """,
        key_id,
        *behind,
        limit,
    )
    return [_sealed(row) for row in rows]


async def reseal(conn: Connection, rows: Sequence[SealedRow]) -> None:
    """Store rows sealed anew; when they were last changed does not change."""
    await conn.executemany(
        "UPDATE secrets SET sealed = $3, key_id = $4 WHERE owner_id = $1 AND key = $2",
        [(row.owner_id, row.key, row.sealed.data, row.sealed.key_id) for row in rows],
    )
