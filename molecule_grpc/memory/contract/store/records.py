"""Statements of the built-in store as a server of the contract: one organisation has all rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.memory.store.usage import USAGE_SHARD, release
from molecule_grpc.memory.store.visible import current, unexpired

PAGE = 100
# Most rows ranked by the words of a query: the newest rows with any of these words.
_MOST_COMPARED = 5_000


class FoundRow(NamedTuple):
    """A memory that was found. `score` is None in lists without a query."""

    id: UUID
    namespace: str
    content: str
    kind: str
    source: str
    created_at: datetime
    expires_at: datetime | None
    propagation: str | None
    pin: bool
    score: float | None


_FOUND = (
    "m.id, m.namespace, m.content, m.kind, m.source, m.created_at, m.expires_at, m.metadata,"
    " m.pinned"
)
_WHERE = f"""m.organization_id = $1 AND m.namespace = ANY($2::text[])
    AND (cardinality($3::text[]) = 0 OR m.kind = ANY($3::text[])) AND {current("m")}"""

_WRITE = f"""
    WITH old AS (
        SELECT octet_length(content) AS bytes FROM memories
        WHERE id = $2 AND (organization_id = $1) IS TRUE
    ), written AS (
        INSERT INTO memories AS m (
            organization_id, id, namespace, content, content_sha256, kind, source, pinned,
            expires_at, valid_from, change, metadata, embed_state, words, word_count, created_at
        )
        SELECT $1, $2, $3, $4, sha256(convert_to($4, 'UTF8')), $5, $6, $7, $8,
               coalesce($9, now()), 'committed', $10::jsonb, $11, w, memory_word_count(w),
               coalesce($9, now())
        FROM memory_words($12::text::regconfig, $4) w
        ON CONFLICT (organization_id, id) DO UPDATE
        SET content = excluded.content, content_sha256 = excluded.content_sha256,
            kind = excluded.kind, source = excluded.source, pinned = excluded.pinned,
            expires_at = excluded.expires_at, metadata = excluded.metadata,
            embed_state = excluded.embed_state, words = excluded.words,
            word_count = excluded.word_count, version = m.version + 1, change = 'updated',
            created_at = coalesce($9, m.created_at), known_from = now(), updated_at = now()
        WHERE m.namespace = excluded.namespace
        RETURNING octet_length(m.content) AS bytes
    ), more AS (
        SELECT CASE WHEN EXISTS (SELECT FROM old) THEN 0 ELSE 1 END AS memories,
               bytes - coalesce((SELECT bytes FROM old), 0) AS bytes
        FROM written
    ), used AS (
        INSERT INTO memory_usage AS u (organization_id, shard, memories, bytes)
        SELECT $1, {USAGE_SHARD}, memories, bytes FROM more
        ON CONFLICT (organization_id, shard) DO UPDATE
        SET memories = u.memories + excluded.memories, bytes = u.bytes + excluded.bytes
    )
    UPDATE memory_namespaces n
    SET memories = n.memories + more.memories, bytes = n.bytes + more.bytes
    FROM more
    WHERE n.organization_id = $1 AND n.name = $3
    RETURNING true
"""
_FORGET = f"""
    WITH gone AS (
        DELETE FROM memories
        WHERE id = $2 AND (organization_id = $1) IS TRUE AND namespace = $3
        RETURNING organization_id, namespace, 1::bigint AS memories,
                  octet_length(content)::bigint AS bytes
    ), {release("gone")}
    SELECT true FROM gone
"""
_ELSEWHERE = f"""
    SELECT true FROM memories m
    WHERE m.id = $2 AND (m.organization_id = $1) IS TRUE AND {unexpired("m")}
"""
_RECENT = f"""
    SELECT {_FOUND}, NULL::float8 FROM memories m WHERE {_WHERE}
    ORDER BY m.pinned DESC, m.created_at DESC, m.id DESC LIMIT $4
"""
_PAGE = f"""
    SELECT {_FOUND}, NULL::float8 FROM memories m
    WHERE m.organization_id = $1 AND m.namespace = $2 AND m.id > $3 AND {current("m")}
    ORDER BY m.id LIMIT {PAGE}
"""
_SUBSTRING = f"""
    SELECT {_FOUND}, NULL::float8 FROM memories m
    WHERE {_WHERE} AND strpos(lower(m.content), lower($5)) > 0
    ORDER BY m.pinned DESC, m.created_at DESC, m.id DESC LIMIT $4
"""
_BY_WORDS = f"""
    WITH asked AS (
        SELECT string_agg(
            '''' || replace(replace(word, '\\', '\\\\'), '''', '''''') || '''', ' | '
        )::tsquery AS query
        FROM (SELECT DISTINCT unnest(tsvector_to_array(memory_words('english', $5))) AS word) words
    ), candidates AS (
        SELECT {_FOUND}, m.words FROM memories m, asked
        WHERE {_WHERE} AND m.words @@ asked.query
        ORDER BY m.created_at DESC, m.id DESC LIMIT {_MOST_COMPARED}
    )
    SELECT m.id, m.namespace, m.content, m.kind, m.source, m.created_at, m.expires_at, m.metadata,
           m.pinned, ts_rank(m.words, asked.query, 1)::float8 AS score
    FROM candidates m, asked
    ORDER BY score DESC, m.created_at DESC, m.id DESC LIMIT $4
"""


async def enable_vectors(conn: Connection | Pool, model: str, dimensions: int) -> str | None:
    """Make room for vectors of a model; the schema of the extension, None without it."""
    found: str | None = await conn.fetchval(
        "SELECT quote_ident(memory_enable_vectors($1, $2))", model, dimensions
    )
    return found


async def write(conn: Connection, organization_id: UUID, memory_id: UUID, *values: object) -> bool:
    """Make a memory or overwrite it; False if the id is of another namespace.

    Args:
        values: namespace, content, kind, source, pin, expires_at, created_at, propagation as JSON
            text, embed_state, language.
    """
    return bool(await conn.fetchval(_WRITE, organization_id, memory_id, *values))


async def replace_vector(
    conn: Connection,
    organization_id: UUID,
    memory_id: UUID,
    model: str,
    home: str,
    vector: str,
) -> None:
    """Keep the vector of a memory's text, in place of others."""
    await conn.execute(
        f"""
        INSERT INTO memory_embeddings AS e
            (organization_id, memory_id, model, chunk, content_sha256, embedding)
        SELECT organization_id, id, $3, 0, content_sha256, $4::text::{home}.vector
        FROM memories
        WHERE id = $2 AND (organization_id = $1) IS TRUE
        ON CONFLICT (organization_id, memory_id, model, chunk) DO UPDATE
        SET content_sha256 = excluded.content_sha256, embedding = excluded.embedding
        """,
        organization_id,
        memory_id,
        model,
        vector,
    )


async def forget(conn: Connection, organization_id: UUID, memory_id: UUID, namespace: str) -> bool:
    """Delete a memory of a namespace; whether there was one."""
    return bool(await conn.fetchval(_FORGET, organization_id, memory_id, namespace))


async def exists(conn: Connection | Pool, organization_id: UUID, memory_id: UUID) -> bool:
    """Whether any namespace has this memory."""
    return bool(await conn.fetchval(_ELSEWHERE, organization_id, memory_id))


async def recent(
    conn: Connection | Pool,
    organization_id: UUID,
    namespaces: Sequence[str],
    kinds: Sequence[str],
    limit: int,
) -> list[FoundRow]:
    """Pinned memories, then the newest."""
    rows = await conn.fetch(_RECENT, organization_id, namespaces, kinds, limit)
    return [FoundRow(*row) for row in rows]


async def page(
    conn: Connection | Pool, organization_id: UUID, namespace: str, after: UUID
) -> list[FoundRow]:
    """Up to 100 memories of a namespace with greater ids, in their order."""
    rows = await conn.fetch(_PAGE, organization_id, namespace, after)
    return [FoundRow(*row) for row in rows]


async def substring(
    conn: Connection | Pool,
    organization_id: UUID,
    namespaces: Sequence[str],
    kinds: Sequence[str],
    limit: int,
    text: str,
) -> list[FoundRow]:
    """Memories whose content contains a text; upper and lower case are equal."""
    rows = await conn.fetch(_SUBSTRING, organization_id, namespaces, kinds, limit, text)
    return [FoundRow(*row) for row in rows]


async def by_words(
    conn: Connection | Pool,
    organization_id: UUID,
    namespaces: Sequence[str],
    kinds: Sequence[str],
    limit: int,
    text: str,
) -> list[FoundRow]:
    """Memories with any word of a text, best first."""
    rows = await conn.fetch(_BY_WORDS, organization_id, namespaces, kinds, limit, text)
    return [FoundRow(*row) for row in rows]


async def by_vector(
    conn: Connection | Pool,
    organization_id: UUID,
    namespaces: Sequence[str],
    kinds: Sequence[str],
    limit: int,
    model: str,
    home: str,
    vector: str,
) -> list[FoundRow]:
    """Memories with a vector, nearest first; the score is the cosine. An exact scan."""
    rows = await conn.fetch(
        f"""
        SELECT {_FOUND},
               (1 - (e.embedding OPERATOR({home}.<=>) $5::text::{home}.vector))::float8 AS score
        FROM memories m
        JOIN memory_embeddings e
          ON e.organization_id = m.organization_id AND e.memory_id = m.id
         AND e.model = $6 AND e.content_sha256 = m.content_sha256
        WHERE {_WHERE}
        ORDER BY score DESC, m.created_at DESC, m.id DESC LIMIT $4
        """,
        organization_id,
        namespaces,
        kinds,
        limit,
        vector,
        model,
    )
    return [FoundRow(*row) for row in rows]
