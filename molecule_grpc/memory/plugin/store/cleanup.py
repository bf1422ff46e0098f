"""Namespaces that a plugin has yet to delete."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

_FIRST_SECONDS = 5
_LAST_SECONDS = 3600


class Due(NamedTuple):
    """A namespace to be deleted. `namespace` is its name in the plugin."""

    id: int
    namespace: str
    attempts: int


async def add(conn: Connection, workspace_ids: list[UUID]) -> None:
    """Note what belongs to workspaces that are about to be deleted.

    That is the own namespace of each; of one without a parent also its team's and its
    organisation's, and of one with children its team's: nobody is left who could read those.
    """
    await conn.execute(
        """
        INSERT INTO memory_cleanup_outbox (namespace)
        SELECT kind || ':' || w.id
        FROM workspaces w, unnest(ARRAY['workspace', 'team', 'org']) WITH ORDINALITY k (kind, n)
        WHERE w.id = ANY($1::uuid[])
          AND CASE kind
              WHEN 'workspace' THEN true
              WHEN 'org' THEN w.parent_id IS NULL
              ELSE w.parent_id IS NULL
                   OR EXISTS (SELECT FROM workspaces c WHERE c.parent_id = w.id)
              END
        ORDER BY w.id, n
        """,
        workspace_ids,
    )


async def take(conn: Connection | Pool, limit: int) -> list[Due]:
    """Namespaces that are due. Each is due again later, in 5 s, doubling to an hour."""
    rows = await conn.fetch(
        f"""
        UPDATE memory_cleanup_outbox
        SET attempts = attempts + 1,
            next_at = now() + make_interval(
                secs => least({_FIRST_SECONDS} * 2.0 ^ least(attempts, 20), {_LAST_SECONDS}))
        WHERE id IN (
            SELECT id FROM memory_cleanup_outbox WHERE next_at <= now()
            ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED
        )
        RETURNING id, namespace, attempts
        """,
        limit,
    )
    return [Due(*row) for row in rows]


async def drop(conn: Connection | Pool, ids: list[int]) -> None:
    """Forget namespaces that are deleted."""
    await conn.execute("DELETE FROM memory_cleanup_outbox WHERE id = ANY($1::bigint[])", ids)


async def waiting(conn: Connection | Pool) -> int:
    """How many namespaces are yet to be deleted, counted to 10,000."""
    count: int = await conn.fetchval(
        "SELECT count(*) FROM (SELECT FROM memory_cleanup_outbox LIMIT 10000) some_rows"
    )
    return count
