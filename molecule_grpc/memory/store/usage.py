"""The SQL of what namespaces and organisations keep, and the quotas that bound it."""

from __future__ import annotations

from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

# Writers of different connections mostly add to different rows.
USAGE_SHARD: Final = "pg_backend_pid() % 16"


class Limits(NamedTuple):
    """The most that is kept, as statements compare with it. Bytes are those of texts."""

    namespace_memories: int
    namespace_bytes: int
    organization_memories: int
    organization_bytes: int


class Usage(NamedTuple):
    """What is kept."""

    memories: int
    bytes: int


def release(removed: str) -> str:
    """Two CTEs, `released` and `let_go`: what is removed counts no more.

    Args:
        removed: a CTE with a row for each namespace of each organisation: `organization_id`,
            `namespace`, `memories`, `bytes`. A statement has at most one.
    """
    return f"""
    released AS (
        UPDATE memory_namespaces n
        SET memories = n.memories - r.memories, bytes = n.bytes - r.bytes
        FROM (SELECT * FROM {removed} ORDER BY organization_id, namespace) r
        WHERE n.organization_id = r.organization_id AND n.name = r.namespace
    ),
    let_go AS (
        INSERT INTO memory_usage AS u (organization_id, shard, memories, bytes)
        SELECT organization_id, {USAGE_SHARD}, -sum(memories), -sum(bytes)
        FROM {removed} GROUP BY organization_id ORDER BY organization_id
        ON CONFLICT (organization_id, shard) DO UPDATE
        SET memories = u.memories + excluded.memories, bytes = u.bytes + excluded.bytes
    )
    """


async def of_organization(pool: Pool | Connection, organization_id: UUID) -> Usage:
    """What an organisation keeps."""
    row = await pool.fetchrow(
        """
        SELECT coalesce(sum(memories), 0)::bigint, coalesce(sum(bytes), 0)::bigint
        FROM memory_usage WHERE organization_id = $1
        """,
        organization_id,
    )
    assert row is not None
    return Usage(*row)


async def of_namespace(pool: Pool | Connection, organization_id: UUID, name: str) -> Usage:
    """What a namespace keeps."""
    row = await pool.fetchrow(
        "SELECT memories, bytes FROM memory_namespaces WHERE organization_id = $1 AND name = $2",
        organization_id,
        name,
    )
    return Usage(0, 0) if row is None else Usage(*row)
