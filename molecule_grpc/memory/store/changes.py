"""The SQL that changes memories, and removes them with all that was made of them.

Every statement is one of a transaction that holds the row, see `hold`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.memory.store.usage import USAGE_SHARD, release
from molecule_grpc.memory.store.visible import replaced, visible


class HeldRow(NamedTuple):
    """A memory that the transaction holds. The order of the fields is that of `_COLUMNS`."""

    id: UUID
    namespace: str
    sha256: bytes
    kind: str
    tags: list[str]
    entities: list[str]
    label: str
    author_id: UUID | None
    pinned: bool
    expires_at: datetime | None
    valid_from: datetime
    valid_to: datetime | None
    superseded_by: UUID | None
    version: int
    change: str
    source: str
    delegation_id: str | None
    file_id: UUID | None
    metadata: str | None
    created_at: datetime


class NewText(NamedTuple):
    """A new text of a memory. The order of the fields is that of `_SET_TEXT`.

    Args:
        redactions: how many secrets were replaced in the text.
    """

    author_id: UUID
    content: str
    sha256: bytes
    redactions: int
    embed_state: str


class NewFields(NamedTuple):
    """Fields of a memory except its text. The order of the fields is that of `_SET_FIELDS`."""

    kind: str
    tags: list[str]
    entities: list[str]
    label: str
    pinned: bool
    expires_at: datetime | None
    valid_to: datetime | None
    source: str
    valid_from: datetime
    delegation_id: str | None
    file_id: UUID | None
    metadata: str | None


def free_key(m: str, sha256: str) -> str:
    """SQL: the key of a text in the namespace of a memory; NULL where a memory already has the key.

    Args:
        m: alias of the memory.
        sha256: SQL for the digest of the text.
    """
    key = f"memory_text_key({m}.organization_id, {m}.namespace, {sha256})"
    return f"""CASE WHEN NOT EXISTS (
            SELECT FROM memories standing WHERE standing.text_key = {key}
        ) THEN {key} END"""


_COLUMNS = f"""
    m.id, m.namespace, m.content_sha256, m.kind, m.tags, m.entities, m.label, m.author_id, m.pinned,
    m.expires_at, m.valid_from, m.valid_to,
    CASE WHEN {replaced("m")} THEN m.superseded_by END, m.version, m.change,
    m.source, m.delegation_id, m.file_id, m.metadata::text, m.created_at
"""

_HOLD = f"""
    SELECT {_COLUMNS} FROM memories m
    WHERE m.id = ANY ($2::uuid[]) AND (m.organization_id = $1) IS TRUE
      AND m.namespace = ANY ($3::text[])
      AND {visible("m")}
    ORDER BY m.id FOR UPDATE OF m
"""

# The earlier text moves to `memory_versions`: the namespace grows by all bytes of the new text.
_SET_TEXT = f"""
    WITH old AS (
        SELECT m.*, memory_words(n.language, $4) AS new_words
        FROM memories m JOIN memory_namespaces n
            ON n.organization_id = m.organization_id AND n.name = m.namespace
        WHERE m.id = $2 AND (m.organization_id = $1) IS TRUE
        OFFSET 0
    ),
    kept AS (
        INSERT INTO memory_versions (
            organization_id, memory_id, version, content, author_id, change, words, word_count,
            known_from, known_to
        )
        SELECT organization_id, id, version, content, author_id, change, words, word_count,
               known_from, now()
        FROM old
    ),
    changed AS (
        UPDATE memories m
        SET content = $4, content_sha256 = $5, author_id = $3, redactions = $6, embed_state = $7,
            text_key = CASE WHEN m.text_key IS NOT NULL THEN {free_key("m", "$5")} END,
            version = m.version + 1, change = 'updated', known_from = now(), updated_at = now(),
            words = old.new_words, word_count = memory_word_count(old.new_words)
        FROM old WHERE m.id = old.id AND (m.organization_id = old.organization_id) IS TRUE
        RETURNING m.organization_id, m.namespace, m.version
    ),
    places AS (
        UPDATE memory_namespaces n SET bytes = n.bytes + octet_length($4) FROM changed c
        WHERE n.organization_id = c.organization_id AND n.name = c.namespace
    ),
    counted AS (
        INSERT INTO memory_usage AS u (organization_id, shard, memories, bytes)
        SELECT organization_id, {USAGE_SHARD}, 0, octet_length($4) FROM changed
        ON CONFLICT (organization_id, shard) DO UPDATE SET bytes = u.bytes + excluded.bytes
    )
    SELECT version FROM changed
"""

_SET_FIELDS = """
    UPDATE memories
    SET kind = $3, tags = $4, entities = $5, label = $6, pinned = $7, expires_at = $8,
        valid_to = $9, source = $10, valid_from = $11, delegation_id = $12, file_id = $13,
        metadata = $14::jsonb, updated_at = now(), version = version + $15::int
    WHERE id = $2 AND (organization_id = $1) IS TRUE
"""

# Memories that the forgotten memory replaced are linked to its own successor, if it has any.
_FORGET = f"""
    WITH texts AS (
        DELETE FROM memory_versions WHERE organization_id = $1 AND memory_id = $2
        RETURNING octet_length(content) AS size
    ),
    gone AS (
        DELETE FROM memories WHERE id = $2 AND (organization_id = $1) IS TRUE
        RETURNING organization_id, namespace, octet_length(content) AS size, superseded_by
    ),
    relinked AS (
        UPDATE memories m SET superseded_by = gone.superseded_by FROM gone
        WHERE m.superseded_by = $2 AND (m.organization_id = $1) IS TRUE
          AND (m.namespace = gone.namespace) IS TRUE AND gone.superseded_by IS NOT NULL
    ),
    removed AS (
        SELECT organization_id, namespace, 1 AS memories,
               size + (SELECT coalesce(sum(size), 0) FROM texts) AS bytes
        FROM gone
    ),
    {release("removed")}
    SELECT count(*) + (SELECT count(*) FROM texts) FROM gone
"""

_DROP_EXPIRED = f"""
    WITH gone AS (
        DELETE FROM memories m USING workspaces w
        WHERE w.id = $1 AND m.id = $2 AND (m.organization_id = w.organization_id) IS TRUE
          AND m.expires_at <= now()
        RETURNING m.organization_id, m.id, m.namespace, octet_length(m.content) AS size
    ),
    removed AS (
        SELECT organization_id, namespace, 1 AS memories, size + (
                   SELECT coalesce(sum(octet_length(v.content)), 0) FROM memory_versions v
                   WHERE v.organization_id = gone.organization_id AND v.memory_id = gone.id
               ) AS bytes
        FROM gone
    ),
    {release("removed")}
    SELECT count(*) FROM gone
"""


async def hold(
    conn: Connection, organization_id: UUID, ids: Sequence[UUID], namespaces: Sequence[str]
) -> list[HeldRow]:
    """Lock those of these memories that can be seen in these namespaces, in the order of ids."""
    rows = await conn.fetch(_HOLD, organization_id, ids, namespaces)
    return [HeldRow(*row) for row in rows]


async def digest(
    conn: Connection, organization_id: UUID, memory_id: UUID, namespaces: Sequence[str]
) -> bytes | None:
    """SHA-256 of the text of a memory that can be seen in these namespaces. Takes no lock."""
    found: bytes | None = await conn.fetchval(
        f"""
        SELECT m.content_sha256 FROM memories m
        WHERE m.id = $2 AND (m.organization_id = $1) IS TRUE AND m.namespace = ANY ($3::text[])
          AND {visible("m")}
        """,
        organization_id,
        memory_id,
        namespaces,
    )
    return found


async def set_text(conn: Connection, organization_id: UUID, memory_id: UUID, text: NewText) -> int:
    """Replace the text of a memory, and keep the earlier text as a version. The new version."""
    version: int = await conn.fetchval(_SET_TEXT, organization_id, memory_id, *text)
    return version


async def set_fields(
    conn: Connection, organization_id: UUID, memory_id: UUID, fields: NewFields, *, steps: int
) -> None:
    """Replace all fields of a memory except its text.

    Args:
        steps: added to the version: 1, or 0 where a new text has raised it.
    """
    await conn.execute(_SET_FIELDS, organization_id, memory_id, *fields, steps)


async def forget(conn: Connection, organization_id: UUID, memory_id: UUID) -> int:
    """Delete a memory with earlier texts and vectors. Returns the number of deleted rows."""
    vectors = 0
    if await conn.fetchval("SELECT to_regclass('memory_embeddings') IS NOT NULL"):
        vectors = await conn.fetchval(
            "SELECT count(*) FROM memory_embeddings WHERE organization_id = $1 AND memory_id = $2",
            organization_id,
            memory_id,
        )
    removed: int = await conn.fetchval(_FORGET, organization_id, memory_id)
    return removed + vectors


async def drop_expired(pool: Pool | Connection, author_id: UUID, memory_id: UUID) -> None:
    """Delete a memory of an author's organisation if it has expired."""
    await pool.execute(_DROP_EXPIRED, author_id, memory_id)
