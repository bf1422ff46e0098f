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

_WHOSE: Final = "(SELECT organization_id FROM whose)"

# Of a stored memory. Parameters of both: organisation or author, memory, namespace.
_STORED = """
    whose AS MATERIALIZED (SELECT $1::uuid AS organization_id),
    text AS MATERIALIZED (
        SELECT mine.words FROM memories mine
        WHERE mine.id = $2 AND (mine.organization_id = $1) IS TRUE
    )
"""
_ON_ITS_WAY = """
    whose AS MATERIALIZED (SELECT organization_id FROM workspaces WHERE id = $1::uuid),
    text AS MATERIALIZED (
        SELECT memory_words(coalesce((
            SELECT n.language FROM memory_namespaces n
            WHERE n.organization_id = (SELECT organization_id FROM whose) AND n.name = $3
        ), 'english'), $4::text) AS words
    )
"""

_ALIKE = f"""
    WITH {{whose}},
    own AS MATERIALIZED (
        SELECT array_agg(word::tsquery) AS words, string_agg(word, ' | ')::tsquery AS any_word
        FROM (
            SELECT '''' || replace(replace(lexeme, '\\', '\\\\'), '''', '''''') || '''' AS word
            FROM text, unnest(tsvector_to_array(text.words)) lexeme
            ORDER BY length(lexeme) DESC, lexeme LIMIT {_WORDS}
        ) longest
    ),
    -- One look for any of the words first: a text that has none is not asked for each.
    newest AS MATERIALIZED (
        SELECT m.id, m.words, m.words @@ (SELECT own.any_word FROM own) AS any_word
        FROM memories m
        WHERE m.organization_id = {_WHOSE} AND m.namespace = $3 AND m.id <> $2
          AND {current("m", _WHOSE)}
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
    FROM best JOIN memories m ON m.id = best.id AND (m.organization_id = {_WHOSE}) IS TRUE
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
    sql = _ALIKE.replace("{whose}", _STORED).replace("{cosine}", cosine)
    rows = await connection.fetch(sql, organization_id, memory_id, namespace, model)
    return [Candidate(*row.values()) for row in rows]


async def alike_text(
    connection: Connection, author_id: UUID, memory_id: UUID, namespace: str, content: str
) -> list[Candidate]:
    """The rows among the newest 500 that share most words with a text that is being stored.

    Args:
        author_id: whose organisation the namespace is of.
        memory_id: of the text, which may be there already.
    """
    sql = _ALIKE.replace("{whose}", _ON_ITS_WAY).replace("{cosine}", "NULL::float8")
    rows = await connection.fetch(sql, author_id, memory_id, namespace, content)
    return [Candidate(*row.values()) for row in rows]
