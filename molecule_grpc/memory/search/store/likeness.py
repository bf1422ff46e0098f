"""Rows of a namespace that share words with one of them."""

from __future__ import annotations

from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.memory.search.store.literals import quoted_name
from molecule_grpc.memory.store.visible import current

# Rows, the newest, that a text is compared with, and those of them that are read.
_NEWEST: Final = 500
_READ: Final = 8
# The longest words of a text: they are the rarest ones more often than not.
_WORDS: Final = 8
_LETTERS: Final = 4000

_ALIKE = f"""
    WITH own AS MATERIALIZED (
        SELECT array_agg(word::tsquery) AS words, string_agg(word, ' | ')::tsquery AS any_word
        FROM (
            SELECT '''' || replace(replace(lexeme, '\\', '\\\\'), '''', '''''') || '''' AS word
            FROM memories mine, unnest(tsvector_to_array(mine.words)) lexeme
            WHERE mine.id = $2 AND (mine.organization_id = $1) IS TRUE
            ORDER BY length(lexeme) DESC, lexeme LIMIT {_WORDS}
        ) longest
    ),
    -- One look for any of the words first: a text that has none is not asked for each.
    newest AS MATERIALIZED (
        SELECT m.id, m.words, m.words @@ (SELECT own.any_word FROM own) AS any_word
        FROM memories m
        WHERE m.organization_id = $1 AND m.namespace = $3 AND m.id <> $2 AND {current("m", "$1")}
        ORDER BY m.created_at DESC, m.id DESC LIMIT {_NEWEST}
    ),
    best AS MATERIALIZED (
        SELECT n.id, shared.words
        FROM newest n CROSS JOIN own CROSS JOIN LATERAL (
            SELECT count(*) AS words FROM unnest(own.words) word WHERE n.words @@ word
        ) shared
        -- Whoever shares less than a quarter of them says something else.
        WHERE n.any_word AND 4 * shared.words >= cardinality(own.words)
        ORDER BY shared.words DESC, n.id DESC LIMIT {_READ}
    )
    SELECT m.id, left(m.content, {_LETTERS}) AS content, {{cosine}} AS cosine
    FROM best JOIN memories m ON m.id = best.id AND (m.organization_id = $1) IS TRUE
    ORDER BY best.words DESC, m.id DESC
"""

_COSINE = """(
    SELECT 1 - (e.embedding OPERATOR({schema}.<=>) mine.embedding)
    FROM memory_embeddings mine JOIN memory_embeddings e
      ON e.memory_id = m.id AND (e.organization_id = $1) IS TRUE AND e.model = mine.model
     AND e.chunk = 0 AND e.content_sha256 = m.content_sha256
    WHERE mine.memory_id = $2 AND (mine.organization_id = $1) IS TRUE AND mine.model = $4
      AND mine.chunk = 0
)"""


class Candidate(NamedTuple):
    """A row that may resemble the text.

    Args:
        content: its first 4,000 letters.
        cosine: None unless both texts have their vectors already.
    """

    id: UUID
    content: str
    cosine: float | None


async def alike(
    connection: Connection,
    organization_id: UUID,
    memory_id: UUID,
    namespace: str,
    *,
    model: str,
    schema: str | None,
) -> list[Candidate]:
    """The rows among the newest 500 that share most words with a stored memory.

    Args:
        schema: of the extension; None where no vectors can be compared.
    """
    cosine = "CASE WHEN $4::text IS NULL THEN 0 END::float8"
    if schema is not None:
        cosine = _COSINE.replace("{schema}", quoted_name(schema))
    rows = await connection.fetch(
        _ALIKE.replace("{cosine}", cosine), organization_id, memory_id, namespace, model
    )
    return [Candidate(*row.values()) for row in rows]
