"""Rows of a namespace that resemble one of them, by words and by meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.memory.search.store.literals import quoted, quoted_name, vector_text
from molecule_grpc.memory.store.visible import current

# Rows, the newest, that a text is compared with, and those of them that are read.
_NEWEST: Final = 2000
_READ: Final = 8
# The longest words of a text: they are the rarest ones more often than not.
_WORDS: Final = 24
_LETTERS: Final = 4000

_OWN_WORDS = f"""
    SELECT ARRAY(
        SELECT lexeme FROM unnest(tsvector_to_array(words)) lexeme
        ORDER BY length(lexeme) DESC, lexeme LIMIT {_WORDS}
    )
    FROM memories WHERE id = $2 AND (organization_id = $1) IS TRUE
"""

_OTHERS = f"""
    SELECT m.organization_id, m.id, m.content, m.content_sha256, m.words FROM memories m
    WHERE m.organization_id = $1 AND m.namespace = $3 AND m.id <> $2 AND {current("m")}
    ORDER BY m.created_at DESC, m.id DESC LIMIT {_NEWEST}
"""

_BY_WORDS = f"""
    SELECT id, left(content, {_LETTERS}) AS content, NULL::float8 AS cosine FROM ({_OTHERS}) m
    WHERE words @@ $4::tsquery
    ORDER BY ts_rank(words, $4::tsquery, 1) DESC, id LIMIT {_READ}
"""

_BY_MEANING = f"""
    SELECT m.id, left(m.content, {_LETTERS}) AS content,
           1 - (e.embedding OPERATOR({{schema}}.<=>) $4::text::{{schema}}.vector) AS cosine
    FROM ({_OTHERS}) m
    JOIN memory_embeddings e ON e.organization_id = m.organization_id AND e.memory_id = m.id
     AND e.model = $5 AND e.chunk = 0 AND e.content_sha256 = m.content_sha256
    ORDER BY cosine DESC, id LIMIT {_READ}
"""


class Candidate(NamedTuple):
    """A row that may resemble the text.

    Args:
        content: its first 4,000 letters.
        cosine: None where the meaning was not compared.
    """

    id: UUID
    content: str
    cosine: float | None


async def by_words(
    connection: Connection, organization_id: UUID, memory_id: UUID, namespace: str
) -> list[Candidate]:
    """The rows that share most words with a stored memory."""
    lexemes = await connection.fetchval(_OWN_WORDS, organization_id, memory_id)
    if not lexemes:
        return []
    words = " | ".join(quoted(lexeme) for lexeme in lexemes)
    rows = await connection.fetch(_BY_WORDS, organization_id, memory_id, namespace, words)
    return [Candidate(*row.values()) for row in rows]


async def by_meaning(
    connection: Connection,
    organization_id: UUID,
    memory_id: UUID,
    namespace: str,
    vector: Sequence[float],
    *,
    model: str,
    schema: str,
) -> list[Candidate]:
    """The rows whose beginnings are nearest to a vector."""
    sql = _BY_MEANING.replace("{schema}", quoted_name(schema))
    rows = await connection.fetch(
        sql, organization_id, memory_id, namespace, vector_text(vector), model
    )
    return [Candidate(*row.values()) for row in rows]
