"""The SQL of the languages in which the words of namespaces are indexed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

_KNOWN = """
    SELECT cfgname::text FROM pg_ts_config
    WHERE cfgnamespace = 'pg_catalog'::regnamespace ORDER BY cfgname
"""

_SET = """
    INSERT INTO memory_namespaces AS n (organization_id, name, kind, language)
    VALUES ($1, $2, split_part($2, ':', 1), ('pg_catalog.' || $3)::regconfig)
    ON CONFLICT (organization_id, name) DO UPDATE SET language = excluded.language
    WHERE n.expires_at IS NULL OR n.expires_at > now()
    RETURNING true
"""

# The newest first, behind a place; texts whose words are right stay as they are.
_REINDEX = """
    WITH batch AS (
        SELECT id, created_at FROM memories
        WHERE organization_id = $1 AND namespace = $2
          AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::uuid))
        ORDER BY created_at DESC, id DESC LIMIT $6
    ),
    texts AS (
        UPDATE memories m SET words = w.words, word_count = memory_word_count(w.words)
        FROM batch b JOIN memories x ON x.id = b.id AND (x.organization_id = $1) IS TRUE
        CROSS JOIN LATERAL (
            SELECT memory_words(('pg_catalog.' || $3)::regconfig, x.content) AS words OFFSET 0
        ) w
        WHERE m.id = x.id AND (m.organization_id = $1) IS TRUE
          AND m.version = x.version AND m.words <> w.words
        RETURNING 1
    ),
    earlier AS (
        UPDATE memory_versions v SET words = w.words, word_count = memory_word_count(w.words)
        FROM batch b JOIN memory_versions x ON x.organization_id = $1 AND x.memory_id = b.id
        CROSS JOIN LATERAL (
            SELECT memory_words(('pg_catalog.' || $3)::regconfig, x.content) AS words OFFSET 0
        ) w
        WHERE v.organization_id = $1 AND v.memory_id = x.memory_id AND v.version = x.version
          AND v.words <> w.words
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM texts) + (SELECT count(*) FROM earlier) AS reindexed,
           b.created_at, b.id
    FROM batch b ORDER BY b.created_at, b.id LIMIT 1
"""


class Place(NamedTuple):
    """Where the next batch begins."""

    created_at: datetime
    id: UUID


async def known(conn: Connection) -> list[str]:
    """The languages that Postgres has."""
    return [row["cfgname"] for row in await conn.fetch(_KNOWN)]


async def set_language(conn: Connection, organization_id: UUID, name: str, language: str) -> bool:
    """Set the language of a namespace, which is made if need be; False where it has expired."""
    found: bool | None = await conn.fetchval(_SET, organization_id, name, language)
    return bool(found)


async def reindex(
    pool: Pool,
    organization_id: UUID,
    name: str,
    language: str,
    after: Place | None,
    *,
    limit: int,
) -> tuple[int, Place | None]:
    """Index the texts of at most `limit` memories anew; how many changed, and where to go on."""
    at, last = after or (None, None)
    row = await pool.fetchrow(_REINDEX, organization_id, name, language, at, last, limit)
    if row is None:
        return 0, None
    return row["reindexed"], Place(row["created_at"], row["id"])


async def languages_of(pool: Pool, organization_id: UUID, names: Sequence[str]) -> dict[str, str]:
    """The language of each namespace that exists."""
    rows = await pool.fetch(
        "SELECT name, language::text FROM memory_namespaces"
        " WHERE organization_id = $1 AND name = ANY ($2)",
        organization_id,
        list(names),
    )
    return {row["name"]: row["language"] for row in rows}
