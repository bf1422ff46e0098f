"""The SQL that deletes what has expired, and notes when memories were recalled, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.memory.store.usage import release
from molecule_grpc.memory.store.visible import beside, trusted

# Deleted keys keep their versions for so long, after which the workspace's floor remembers them.
_TOMBSTONE = "interval '1 hour'"
# A commit under way when a namespace expires may still write to it.
_GRACE = "interval '1 minute'"
# Which memories agents use is known to an hour: each note is a new version of the row.
_RECALL_AGAIN = "interval '1 hour'"

_DROP_EXPIRED = f"""
    WITH due AS (
        SELECT organization_id, id FROM memories
        WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ),
    texts AS (
        SELECT d.organization_id, d.id, sum(octet_length(v.content)) AS size
        FROM due d JOIN memory_versions v
            ON v.organization_id = d.organization_id AND v.memory_id = d.id
        GROUP BY d.organization_id, d.id
    ),
    gone AS (
        DELETE FROM memories m USING due d
        WHERE m.id = d.id AND (m.organization_id = d.organization_id) IS TRUE
        RETURNING m.organization_id, m.id, m.namespace, m.author_id, m.superseded_by,
                  octet_length(m.content) AS size
    ),
    -- A memory that the deleted one had replaced is now replaced by the deleted one's replacement.
    -- Nothing is relinked where the deleted one was the newest and its author is hidden.
    relinked AS (
        UPDATE memories m
        SET superseded_by = g.superseded_by,
            superseded_at = CASE WHEN g.superseded_by IS NOT NULL THEN m.superseded_at END
        FROM gone g
        WHERE m.superseded_by = g.id AND {beside("m", "g")}
          AND (g.superseded_by IS NOT NULL OR NOT {trusted("g.organization_id", "g.author_id")})
    ),
    removed AS (
        SELECT g.organization_id, g.namespace, count(*) AS memories,
               sum(g.size + coalesce(t.size, 0)) AS bytes
        FROM gone g LEFT JOIN texts t ON t.organization_id = g.organization_id AND t.id = g.id
        GROUP BY g.organization_id, g.namespace
    ),
    {release("removed")}
    SELECT count(*) FROM gone
"""

EXPIRED_NAMESPACES: Final = f"""
    SELECT organization_id, name FROM memory_namespaces
    WHERE expires_at <= now() - {_GRACE} AND (organization_id, name) > ($1::uuid, $2::text)
    ORDER BY organization_id, name LIMIT $3
"""

# Without a plugin nobody deletes these: after so long nobody will.
CLEANUP_DAYS: Final = 30

_DROP_CLEANUPS = f"""
    WITH gone AS (
        DELETE FROM memory_cleanup_outbox WHERE id IN (
            SELECT id FROM memory_cleanup_outbox
            WHERE created_at <= now() - interval '{CLEANUP_DAYS} days'
            ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
        )
        RETURNING 1
    )
    SELECT count(*) FROM gone
"""

# A writer holds the lock of its workspace's keys, and reads the floor after it has the lock.
_DROP_VALUES = f"""
    WITH due AS (
        SELECT workspace_id, key, version FROM memory_values
        WHERE value IS NULL AND updated_at <= now() - {_TOMBSTONE}
        ORDER BY updated_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ),
    lapsed AS (
        SELECT workspace_id, key, version FROM memory_values
        WHERE expires_at <= now() - {_TOMBSTONE}
        ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ),
    gone AS (
        DELETE FROM memory_values v
        USING (SELECT * FROM due UNION SELECT * FROM lapsed) d
        WHERE v.workspace_id = d.workspace_id AND v.key = d.key
        RETURNING v.workspace_id, v.version
    ),
    floors AS (
        INSERT INTO memory_value_floors AS f (workspace_id, version)
        SELECT workspace_id, max(version) FROM gone GROUP BY workspace_id ORDER BY workspace_id
        ON CONFLICT (workspace_id) DO UPDATE SET version = greatest(f.version, excluded.version)
    )
    SELECT count(*) FROM gone
"""

_RECALLED = f"""
    UPDATE memories m SET last_recalled_at = now()
    FROM unnest($1::uuid[], $2::uuid[]) AS r (organization_id, id)
    WHERE m.id = r.id AND (m.organization_id = r.organization_id) IS TRUE
      AND (m.last_recalled_at IS NULL OR m.last_recalled_at < now() - {_RECALL_AGAIN})
"""

# What hangs on a purged workspace is hidden at once, and so is what a commit under way adds: a row
# stands for each name, whether or not the namespace was there.
_EXPIRE_OF = """
    WITH names AS (
        SELECT w.organization_id, kind || ':' || w.id AS name, kind
        FROM workspaces w, unnest(ARRAY['workspace', 'team', 'org']) kind WHERE w.id = ANY ($1)
    ),
    granted AS (
        DELETE FROM memory_grants g USING names n
        WHERE g.organization_id = n.organization_id AND g.namespace = n.name
    )
    INSERT INTO memory_namespaces AS n (organization_id, name, kind, expires_at)
    SELECT organization_id, name, kind, now() FROM names ORDER BY organization_id, name
    ON CONFLICT (organization_id, name) DO UPDATE
    SET expires_at = least(n.expires_at, excluded.expires_at)
"""


async def drop_expired(pool: Pool, *, limit: int) -> int:
    """Delete memories that have expired, the oldest first, with earlier texts; how many."""
    removed: int = await pool.fetchval(_DROP_EXPIRED, limit)
    return removed


async def expired_namespaces(
    pool: Pool, after: tuple[UUID, str], *, limit: int
) -> list[tuple[UUID, str]]:
    """Organisations and names, behind a place, of what expired a minute ago or earlier."""
    return [(row[0], row[1]) for row in await pool.fetch(EXPIRED_NAMESPACES, *after, limit)]


async def drop_values(pool: Pool, *, limit: int) -> int:
    """Delete rows of keys that were deleted or expired an hour ago or earlier; how many."""
    removed: int = await pool.fetchval(_DROP_VALUES, limit)
    return removed


async def note_recalled(pool: Pool, ids: Sequence[tuple[UUID, UUID]]) -> None:
    """Note that memories, by organisation and id, were recalled just now."""
    organizations, memories = zip(*ids, strict=True)
    await pool.execute(_RECALLED, list(organizations), list(memories))


async def expire_of(conn: Connection, workspace_ids: Sequence[UUID]) -> None:
    """Hide the namespaces that hang on these workspaces, in the transaction that purges them."""
    await conn.execute(_EXPIRE_OF, list(workspace_ids))


async def drop_cleanups(pool: Pool, *, limit: int) -> int:
    """Forget what a plugin should have deleted 30 days ago; how many namespaces."""
    dropped: int = await pool.fetchval(_DROP_CLEANUPS, limit)
    return dropped
