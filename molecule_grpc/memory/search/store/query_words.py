"""The words of a query as the index of each language knows them, and what the namespaces hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.memory.search.plan import Word

# Only the first 48 words of a query count: a page token carries a number for each word.
MOST_WORDS: Final = 48
# Letters of scripts without blanks between words: the index has pieces of two letters. Longer words
# are sentences, which the parser does not split: a query ignores them, as hardly any row has them.
_UNBROKEN: Final = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_PIECE_LETTERS: Final = 2

_LANGUAGES = """
    SELECT spaces.language::text AS language, spaces.memories, found.words
    FROM (
        SELECT language, sum(memories)::bigint AS memories FROM memory_namespaces
        WHERE organization_id = $1 AND name = ANY($2)
        GROUP BY language
    ) spaces
    CROSS JOIN LATERAL (
        SELECT ARRAY(
            SELECT w.lexeme FROM unnest(memory_words(spaces.language, $3)) w
            ORDER BY w.positions[1] LIMIT 200
        ) AS words
    ) found
    ORDER BY spaces.memories DESC, language LIMIT 30
"""


class QueryWords(NamedTuple):
    """A query against its namespaces.

    Args:
        memories: about how many memories they hold, those included that do not hold now.
    """

    words: list[Word]
    memories: int


async def query_words(
    connection: Connection, organization_id: UUID, namespaces: Sequence[str], text: str
) -> QueryWords:
    """The words of a query; none where it has none that the index keeps, or nothing is stored."""
    rows = await connection.fetch(_LANGUAGES, organization_id, list(namespaces), text)
    languages: dict[str, list[str]] = {}
    for row in rows:
        for lexeme in filter(_indexed, row["words"]):
            if lexeme in languages or len(languages) < MOST_WORDS:
                languages.setdefault(lexeme, []).append(row["language"])
    words = [Word(lexeme, tuple(known)) for lexeme, known in languages.items()]
    return QueryWords(words, sum(row["memories"] for row in rows))


def _indexed(lexeme: str) -> bool:
    return len(lexeme) <= _PIECE_LETTERS or not _UNBROKEN.search(lexeme)
