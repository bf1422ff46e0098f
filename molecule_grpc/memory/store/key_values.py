"""The SQL of keys and values. A key that has expired is absent for every statement."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Connection, Pool

_LIVE = "(v.value IS NOT NULL AND (v.expires_at IS NULL OR v.expires_at > now()))"
_COLUMNS = "v.key, v.value, v.version, v.expires_at, v.updated_at"


class ValueRow(NamedTuple):
    """A key with its value, which is JSON text."""

    key: str
    value: str
    version: int
    expires_at: datetime | None
    updated_at: datetime


class KeyState(NamedTuple):
    """A key as a writer finds it, under the lock.

    Args:
        version: of a live value; None if the key is absent.
        keys: live keys of the workspace.
    """

    version: int | None
    keys: int


async def lock(conn: Connection, workspace_id: UUID) -> bool:
    """Let no other writer of the workspace's keys in until the transaction ends.

    Returns: whether the workspace is there.
    """
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('memory values ' || $1::uuid, 0))",
        workspace_id,
    )
    live = await conn.fetchval(
        "SELECT true FROM workspaces WHERE id = $1 AND status <> 'removed'", workspace_id
    )
    return live is not None


async def state(conn: Connection, workspace_id: UUID, key: str) -> KeyState:
    """What a writer must know of a key."""
    row = await conn.fetchrow(
        f"""
        SELECT (SELECT v.version FROM memory_values v
                WHERE v.workspace_id = $1 AND v.key = $2 AND {_LIVE}) AS version,
               (SELECT count(*) FROM memory_values v
                WHERE v.workspace_id = $1 AND {_LIVE})::int AS keys
        """,
        workspace_id,
        key,
    )
    assert row is not None
    return KeyState(row["version"], row["keys"])


async def put(
    conn: Connection, workspace_id: UUID, key: str, value: str | None, ttl_seconds: int | None
) -> int | None:
    """Write a key, or delete it with a value of None; its new version, which no key had before.

    None when the value is larger than 4 MiB as Postgres stores it: a number such as 1e300 takes
    160 bytes there. The transaction cannot go on then.

    Deleted keys stay as rows without a value until they are swept, which notes their versions in
    `memory_value_floors`.
    """
    written = conn.fetchval(
        """
        INSERT INTO memory_values AS v (workspace_id, key, value, version, expires_at, updated_at)
        SELECT $1, $2, $3::jsonb,
               1 + coalesce((SELECT f.version FROM memory_value_floors f
                             WHERE f.workspace_id = $1), 0),
               now() + make_interval(secs => $4::int), now()
        ON CONFLICT (workspace_id, key) DO UPDATE
        SET value = excluded.value, expires_at = excluded.expires_at, updated_at = now(),
            version = greatest(v.version + 1, excluded.version)
        RETURNING version
        """,
        workspace_id,
        key,
        value,
        ttl_seconds,
    )
    try:
        version: int = await written
    except asyncpg.CheckViolationError:
        return None
    return version


async def get(pool: Pool, workspace_id: UUID, key: str) -> ValueRow | None:
    """The row of a key; None for a key that is absent, deleted or expired."""
    row = await pool.fetchrow(
        f"SELECT {_COLUMNS} FROM memory_values v WHERE v.workspace_id = $1 AND v.key = $2"
        f" AND {_LIVE}",
        workspace_id,
        key,
    )
    return None if row is None else ValueRow(*row)


async def list_rows(
    pool: Pool, workspace_id: UUID, *, after: str | None, limit: int, max_bytes: int
) -> list[ValueRow]:
    """Live keys behind one, in the order of their code points, until they exceed `max_bytes`.

    The row that exceeds is the last one.
    """
    rows = await pool.fetch(
        f"""
        SELECT key, value, version, expires_at, updated_at
        FROM (
            SELECT {_COLUMNS},
                   sum(pg_column_size(v.value)) OVER (ORDER BY v.key COLLATE "C")
                       - pg_column_size(v.value) AS before
            FROM memory_values v
            WHERE v.workspace_id = $1 AND {_LIVE}
              AND ($2::text IS NULL OR v.key COLLATE "C" > $2)
            ORDER BY v.key COLLATE "C" LIMIT $3
        ) sized
        WHERE before <= $4
        ORDER BY key COLLATE "C"
        """,
        workspace_id,
        after,
        limit,
        max_bytes,
    )
    return [ValueRow(*row) for row in rows]
