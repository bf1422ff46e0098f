"""The SQL of namespaces as a whole: making, moving, emptying, and counting what they hold."""

from __future__ import annotations

from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.memory.store.usage import release

MAX_LARGEST: Final = 100


class NamespaceStats(NamedTuple):
    """What one namespace holds, superseded memories and earlier texts included."""

    organization_id: UUID
    namespace: str
    memories: int
    bytes: int


class Stats(NamedTuple):
    """What is stored.

    Args:
        largest: the hundred largest namespaces.
    """

    namespaces: int
    memories: int
    bytes: int
    embed_pending: int
    embed_failed: int
    quarantined_authors: int
    largest: list[NamespaceStats]


# Words of texts follow the target's language. A text that the target has gets no `text_key`.
_MOVE = """
    WITH batch AS (
        SELECT m.id FROM memories m
        WHERE m.organization_id = $1 AND m.namespace = $2 AND EXISTS (
            SELECT FROM memory_namespaces s
            WHERE s.organization_id = $1 AND s.name = $2
              AND (s.expires_at IS NULL OR s.expires_at > now())
        )
        LIMIT $4 FOR UPDATE
    ),
    texts AS (
        SELECT b.id, coalesce(sum(octet_length(v.content)), 0) AS size
        FROM batch b LEFT JOIN memory_versions v ON v.organization_id = $1 AND v.memory_id = b.id
        GROUP BY b.id
    ),
    moved AS (
        UPDATE memories m
        SET namespace = $3, updated_at = now(),
            text_key = CASE WHEN m.text_key IS NOT NULL AND NOT EXISTS (
                SELECT FROM memories x WHERE x.text_key = memory_text_key($1, $3, m.content_sha256)
            ) THEN memory_text_key($1, $3, m.content_sha256) END,
            words = CASE WHEN t.language = s.language THEN m.words
                         ELSE memory_words(t.language, m.content) END,
            word_count = CASE WHEN t.language = s.language THEN m.word_count
                         ELSE memory_word_count(memory_words(t.language, m.content)) END
        FROM batch b, memory_namespaces s, memory_namespaces t
        WHERE m.id = b.id AND (m.organization_id = $1) IS TRUE
          AND s.organization_id = $1 AND s.name = $2 AND t.organization_id = $1 AND t.name = $3
        RETURNING m.id, octet_length(m.content) AS size
    ),
    sums AS (
        SELECT count(*) AS memories, coalesce(sum(m.size + t.size), 0) AS bytes
        FROM moved m JOIN texts t USING (id)
    ),
    counted AS (
        UPDATE memory_namespaces n
        SET memories = n.memories + CASE n.name WHEN $3 THEN s.memories ELSE -s.memories END,
            bytes = n.bytes + CASE n.name WHEN $3 THEN s.bytes ELSE -s.bytes END
        FROM sums s WHERE n.organization_id = $1 AND n.name IN ($2, $3)
    )
    SELECT memories FROM sums
"""

_EMPTY = f"""
    WITH batch AS (
        SELECT m.organization_id, m.id, m.namespace FROM memories m
        WHERE m.organization_id = $1 AND m.namespace = $2 LIMIT $3 FOR UPDATE SKIP LOCKED
    ),
    texts AS (
        SELECT coalesce(sum(octet_length(v.content)), 0) AS size
        FROM batch b JOIN memory_versions v
            ON v.organization_id = b.organization_id AND v.memory_id = b.id
    ),
    gone AS (
        DELETE FROM memories m USING batch b
        WHERE m.id = b.id AND (m.organization_id = b.organization_id) IS TRUE
        RETURNING m.organization_id, m.namespace, octet_length(m.content) AS size
    ),
    removed AS (
        SELECT organization_id, namespace, count(*) AS memories,
               sum(size) + (SELECT size FROM texts) AS bytes
        FROM gone GROUP BY organization_id, namespace
    ),
    {release("removed")}
    SELECT count(*) FROM gone
"""


async def add_namespace(conn: Connection, organization_id: UUID, name: str) -> bool:
    """Make a namespace unless it exists; False where the existing namespace has expired."""
    found: bool | None = await conn.fetchval(
        """
        INSERT INTO memory_namespaces AS n (organization_id, name, kind)
        VALUES ($1, $2, split_part($2, ':', 1))
        ON CONFLICT (organization_id, name) DO UPDATE SET kind = n.kind
        WHERE n.expires_at IS NULL OR n.expires_at > now()
        RETURNING true
        """,
        organization_id,
        name,
    )
    return bool(found)


async def move(
    conn: Connection, organization_id: UUID, source: str, target: str, *, limit: int
) -> int:
    """Move at most `limit` memories into an existing namespace. The number moved."""
    moved: int = await conn.fetchval(_MOVE, organization_id, source, target, limit)
    return moved


async def expire_namespace(conn: Connection | Pool, organization_id: UUID, name: str) -> bool:
    """Hide a namespace with all that it holds, from now on; False when there is none."""
    found: bool | None = await conn.fetchval(
        """
        UPDATE memory_namespaces SET expires_at = least(expires_at, now())
        WHERE organization_id = $1 AND name = $2 RETURNING true
        """,
        organization_id,
        name,
    )
    return bool(found)


async def empty(conn: Connection | Pool, organization_id: UUID, name: str, *, limit: int) -> int:
    """Delete so many memories of a namespace at most; how many."""
    removed: int = await conn.fetchval(_EMPTY, organization_id, name, limit)
    return removed


async def drop_namespace(conn: Connection | Pool, organization_id: UUID, name: str) -> None:
    """Delete a namespace that holds nothing.

    Its counter must say so, too: a commit under way changes that in the row for which this waits,
    while a look at `memories` alone would miss what is committed meanwhile, and the rows would go
    with their namespace.
    """
    await conn.execute(
        """
        DELETE FROM memory_namespaces n
        WHERE n.organization_id = $1 AND n.name = $2 AND n.memories = 0 AND NOT EXISTS (
            SELECT FROM memories m WHERE m.organization_id = $1 AND m.namespace = $2
        )
        """,
        organization_id,
        name,
    )


async def has_anchor(conn: Connection, organization_id: UUID, workspace_id: UUID) -> bool:
    """Whether an organisation has a workspace, removed or not."""
    found: bool = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM workspaces WHERE id = $1 AND organization_id = $2)",
        workspace_id,
        organization_id,
    )
    return found


async def stats(pool: Pool, organization_id: UUID | None) -> Stats:
    """What is stored, by an organisation or by all."""
    whole = await pool.fetchrow(
        """
        SELECT (SELECT count(*) FROM memory_namespaces
                WHERE $1::uuid IS NULL OR organization_id = $1),
               (SELECT coalesce(sum(memories), 0)::bigint FROM memory_usage
                WHERE $1::uuid IS NULL OR organization_id = $1),
               (SELECT coalesce(sum(bytes), 0)::bigint FROM memory_usage
                WHERE $1::uuid IS NULL OR organization_id = $1),
               (SELECT count(*) FROM memories
                WHERE embed_state = 'pending' AND ($1::uuid IS NULL OR organization_id = $1)),
               (SELECT count(*) FROM memories
                WHERE embed_state = 'failed' AND ($1::uuid IS NULL OR organization_id = $1)),
               (SELECT count(*) FROM memory_quarantine
                WHERE $1::uuid IS NULL OR organization_id = $1)
        """,
        organization_id,
    )
    largest = await pool.fetch(
        """
        SELECT organization_id, name, memories, bytes FROM memory_namespaces
        WHERE $1::uuid IS NULL OR organization_id = $1
        ORDER BY memories DESC, organization_id, name LIMIT $2
        """,
        organization_id,
        MAX_LARGEST,
    )
    assert whole is not None
    namespaces, memories, size, pending, failed, hidden = whole
    return Stats(
        namespaces=namespaces,
        memories=memories,
        bytes=size,
        embed_pending=pending,
        embed_failed=failed,
        quarantined_authors=hidden,
        largest=[NamespaceStats(*row) for row in largest],
    )
