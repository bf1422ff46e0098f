"""The words of a query as the index of each language knows them, and what the namespaces hold."""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

from molecule_grpc.memory.search.plan import Word

# Only the first 48 words of a query count: a page token carries a number for each word.
MOST_WORDS: Final = 48
# Letters of scripts without blanks between words: the index has pieces of two letters. Longer words
# are sentences, which the parser does not split: a query ignores them, as hardly any row has them.
_UNBROKEN: Final = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_PIECE_LETTERS: Final = 2

# JSON: the languages of the namespaces with the query's words in each. Parameters: organisation,
# names of namespaces, text.
WORDS: Final = """
    SELECT coalesce(jsonb_agg(
               jsonb_build_array(language, memories, words) ORDER BY memories DESC, language
           ), '[]')::text
    FROM (
        SELECT spaces.language::text AS language, spaces.memories, ARRAY(
            SELECT w.lexeme FROM unnest(memory_words(spaces.language, $3)) w
            ORDER BY w.positions[1] LIMIT 200
        ) AS words
        FROM (
            SELECT language, sum(memories)::bigint AS memories FROM memory_namespaces
            WHERE organization_id = $1 AND name = ANY($2)
            GROUP BY language
        ) spaces
        ORDER BY spaces.memories DESC, language LIMIT 30
    ) languages
"""


class QueryWords(NamedTuple):
    """A query against its namespaces.

    Args:
        memories: about how many memories they hold, those included that do not hold now.
    """

    words: list[Word]
    memories: int


def query_words(found: str) -> QueryWords:
    """The words of a query, from what `WORDS` answers.

    There are none where the index keeps none of them, or nothing is stored.
    """
    rows: list[tuple[str, int, list[str]]] = json.loads(found)
    languages: dict[str, list[str]] = {}
    for language, _, lexemes in rows:
        for lexeme in filter(_indexed, lexemes):
            if lexeme in languages or len(languages) < MOST_WORDS:
                languages.setdefault(lexeme, []).append(language)
    words = [Word(lexeme, tuple(known)) for lexeme, known in languages.items()]
    return QueryWords(words, sum(memories for _, memories, _ in rows))


def _indexed(lexeme: str) -> bool:
    return len(lexeme) <= _PIECE_LETTERS or not _UNBROKEN.search(lexeme)
