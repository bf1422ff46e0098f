"""Rows of rollouts: a shared secret has changed, and agents are restarted in batches."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.secrets.owner import Owner


class Rollout(NamedTuple):
    """A rollout that has come so far.

    Args:
        organization_id: whose agents are restarted; None for all of the installation.
        after: the last workspace that was looked at.
    """

    owner_id: UUID
    key: str
    organization_id: UUID | None
    after: UUID


async def begin(conn: Connection, owner: Owner, key: str) -> None:
    """Begin the rollout of a secret; from the beginning, where it has begun before."""
    await conn.execute(
        """
        INSERT INTO secret_rollouts (owner_id, key, organization_id) VALUES ($1, $2, $3)
        ON CONFLICT (owner_id, key) DO UPDATE SET after = excluded.after
        """,
        owner.id,
        key,
        owner.organization_id,
    )


async def take(conn: Connection) -> Rollout | None:
    """The oldest rollout that no other worker is at, locked until the transaction ends."""
    row = await conn.fetchrow(
        """
        SELECT owner_id, key, organization_id, after FROM secret_rollouts
        ORDER BY begun_at, owner_id, key LIMIT 1 FOR UPDATE SKIP LOCKED
        """
    )
    return None if row is None else Rollout(*row)


async def concerned(conn: Connection, rollout: Rollout, limit: int) -> list[UUID]:
    """The next workspaces that inherit the secret, and whose agents may run, in id order."""
    rows = await conn.fetch(
        """
        SELECT w.id FROM workspaces w
        WHERE w.id > $1 AND w.runtime <> 'external'
          AND w.status NOT IN ('removed', 'paused', 'hibernating', 'hibernated')
          AND ($2::uuid IS NULL OR w.organization_id = $2)
          AND NOT EXISTS (
              SELECT FROM secrets s WHERE s.key = $3
                AND (s.owner_id = w.id OR $2::uuid IS NULL AND s.owner_id = w.organization_id)
          )
        ORDER BY w.id LIMIT $4
        """,
        rollout.after,
        rollout.organization_id,
        rollout.key,
        limit,
    )
    return [row["id"] for row in rows]


async def advance(conn: Connection, rollout: Rollout, after: UUID) -> None:
    """Note how far a rollout has come."""
    await conn.execute(
        "UPDATE secret_rollouts SET after = $3 WHERE owner_id = $1 AND key = $2",
        rollout.owner_id,
        rollout.key,
        after,
    )


async def end(conn: Connection, rollout: Rollout) -> None:
    """A rollout is over."""
    await conn.execute(
        "DELETE FROM secret_rollouts WHERE owner_id = $1 AND key = $2",
        rollout.owner_id,
        rollout.key,
    )
