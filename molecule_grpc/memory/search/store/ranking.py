"""The statement that ranks: BM25, cosines and their sum, over the rows that the reader can read.

How often a word occurs among the rows, how many rows there are and how long they are is counted in
the same statement over the same rows, so that no score tells of others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.memory.search.plan import Frequencies, Meaning, Place, Ranked, Word
from molecule_grpc.memory.search.store.arguments import Arguments
from molecule_grpc.memory.search.store.held import held, wanted
from molecule_grpc.memory.values import Query

# Of BM25: how soon a repeated word counts no more, and how much long texts are held back.
_K1: Final = 1.2
_B: Final = 0.75
# A row whose vector is not there yet stands where a row would whose meaning fits as its words do.
_WITHOUT_VECTOR: Final = 0.6
# Above every score that words and meaning can reach.
EXACT_BONUS: Final = 2.0
# Rows, the newest, in which a query of one identifier is looked for letter by letter.
_LITERAL_ROWS: Final = 20_000
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What to rank, and by what.

    Args:
        words: of the query; none for no lexical leg.
        frequencies: those of the first page; None counts them.
        meaning: None for no semantic leg.
        literal: the identifier that the query is; empty where it is none.
        weight: of words beside meaning.
        now: the time that ages count from.
        after: the place behind which a page begins; None for the first.
        only: rank this row alone, and say which place it has.
    """

    organization_id: UUID
    namespaces: Sequence[str]
    query: Query
    words: Sequence[Word]
    frequencies: Frequencies | None
    meaning: Meaning | None
    literal: str
    weight: float
    now: datetime
    limit: int
    after: Place | None = None
    only: UUID | None = None


async def ranked(
    connection: Connection, ranking: Ranking
) -> tuple[list[Ranked], Frequencies | None]:
    """The next hits in order, at most `limit`, and the frequencies that gave their scores.

    The frequencies are None where no word was compared or there is no hit.
    """
    arguments = Arguments()
    sql = _statement(arguments, ranking)
    rows = await connection.fetch(sql, *arguments.values)
    hits = [
        Ranked(
            row["id"],
            row["units"],
            row["created_at"],
            row["cosine"],
            row["share"],
            row["exact"],
            row["recency"],
            row["rank"],
        )
        for row in rows
    ]
    return hits, _frequencies(rows, ranking)


def _frequencies(rows: Sequence[Any], ranking: Ranking) -> Frequencies | None:
    if ranking.frequencies is not None or not rows or not ranking.words:
        return ranking.frequencies
    first = rows[0]
    return Frequencies(first["rows"], first["length"], tuple(first["of_words"]))


def _statement(arguments: Arguments, ranking: Ranking) -> str:
    query = ranking.query
    rows = held(arguments, ranking.organization_id, ranking.namespaces, query.as_of)
    return f"""
        WITH held AS NOT MATERIALIZED ({rows}),
        {_lexical(arguments, ranking)},
        {_semantic(arguments, ranking)},
        {_literal(arguments, ranking)},
        scored AS (
            SELECT h.id, h.created_at, near.cosine, lexical.share,
                   literal.id IS NOT NULL AS exact, age.recency,
                   round((({_sum(arguments, ranking)}) * age.recency
                       + CASE WHEN literal.id IS NULL THEN 0 ELSE {EXACT_BONUS} END) * {_MILLION}
                   )::bigint AS units
            FROM held h
            LEFT JOIN near ON near.id = h.id
            LEFT JOIN lexical ON lexical.id = h.id
            LEFT JOIN literal ON literal.id = h.id
            CROSS JOIN LATERAL (SELECT {_recency(arguments, ranking)} AS recency) age
            WHERE (near.id IS NOT NULL OR lexical.id IS NOT NULL OR literal.id IS NOT NULL)
              AND {wanted(arguments, query)}
        )
        SELECT hit.*, size.rows, size.length,
               (SELECT array_agg(known.occurs ORDER BY known.ord) FROM known) AS of_words
        FROM ({_page(arguments, ranking)}) hit CROSS JOIN size
        ORDER BY hit.units DESC, hit.created_at DESC, hit.id DESC
    """


def _page(arguments: Arguments, ranking: Ranking) -> str:
    if ranking.only is not None:
        return f"""
            SELECT * FROM (
                SELECT s.*, row_number() OVER (
                    ORDER BY s.units DESC, s.created_at DESC, s.id DESC
                ) AS rank FROM scored s
            ) s WHERE s.id = {arguments.add(ranking.only, "uuid")}
        """
    least = f"s.units >= {arguments.add(round(ranking.query.min_score * _MILLION), 'bigint')}"
    after = "true"
    if ranking.after is not None:
        place = (
            f"({arguments.add(ranking.after.score, 'bigint')},"
            f" {arguments.add(ranking.after.created_at, 'timestamptz')},"
            f" {arguments.add(ranking.after.id, 'uuid')})"
        )
        after = f"(s.units, s.created_at, s.id) < {place}"
    return f"""
        SELECT s.*, 0 AS rank FROM scored s WHERE {least} AND {after}
        ORDER BY s.units DESC, s.created_at DESC, s.id DESC
        LIMIT {arguments.add(ranking.limit, "integer")}
    """


def _sum(arguments: Arguments, ranking: Ranking) -> str:
    """SQL: the score before age and exactness."""
    if ranking.meaning is None:
        return "coalesce(lexical.share, 0)"
    if not ranking.words:
        return "coalesce(near.cosine, 0)"
    weight = arguments.add(ranking.weight, "float8")
    return f"""CASE WHEN near.cosine IS NULL
        THEN ({weight} + {_WITHOUT_VECTOR}) * coalesce(lexical.share, 0)
        ELSE near.cosine + {weight} * coalesce(lexical.share, 0) END"""


def _recency(arguments: Arguments, ranking: Ranking) -> str:
    if not ranking.query.half_life_days:
        return "1::float8"
    now = arguments.add(ranking.now, "timestamptz")
    half_life = arguments.add(ranking.query.half_life_days * 86_400, "float8")
    # An exponent below -1,000 is out of a float's range.
    return f"""0.5::float8 ^ least(
        greatest(extract(epoch FROM {now} - h.created_at)::float8 / {half_life}, 0), 1000)"""


def _lexical(arguments: Arguments, ranking: Ranking) -> str:
    """SQL: `size`, `known` and `lexical`, which is BM25 as a share of the most that is possible."""
    if not ranking.words:
        return """size AS (SELECT 0 AS rows, 1::float8 AS length),
            known AS (SELECT 0 AS ord, 0 AS occurs WHERE false),
            lexical AS (SELECT NULL::uuid AS id, NULL::float8 AS share WHERE false)"""
    lexemes = [quoted(word.lexeme) for word in ranking.words]
    pairs = [
        (number, language)
        for number, word in enumerate(ranking.words, 1)
        for language in word.languages
    ]
    any_word = arguments.add(" | ".join(lexemes), "text")
    numbers = arguments.add([number for number, _ in pairs], "integer[]")
    languages = arguments.add([language for _, language in pairs], "text[]")
    return f"""
        words AS (
            SELECT w.lexeme::tsquery AS word, w.ord
            FROM unnest({arguments.add(lexemes, "text[]")}) WITH ORDINALITY AS w (lexeme, ord)
        ),
        postings AS MATERIALIZED (
            SELECT h.id, h.word_count, words.ord, memory_occurrences(h.words, words.word) AS times
            FROM (
                SELECT id, word_count, ts_filter(words, '{{a,b,c,d}}') AS words FROM held
                WHERE words @@ {any_word}::tsquery OFFSET 0
            ) h
            JOIN words ON h.words @@ words.word
        ),
        {_counted(arguments, ranking.frequencies)},
        worth AS MATERIALIZED (
            SELECT known.ord,
                   ln(1 + (size.rows - known.occurs + 0.5) / (known.occurs + 0.5))::float8 AS idf
            FROM known CROSS JOIN size
        ),
        reach AS (
            SELECT max(sum) AS most FROM (
                SELECT sum(worth.idf) * {_K1 + 1} AS sum
                FROM unnest({numbers}, {languages}) AS pair (ord, language)
                JOIN worth ON worth.ord = pair.ord GROUP BY pair.language
            ) of_languages
        ),
        lexical AS (
            SELECT p.id, least(1, sum(
                worth.idf * p.times * {_K1 + 1}
                / (p.times + {_K1} * ({1 - _B} + {_B} * p.word_count / size.length))
            ) / max(reach.most)) AS share
            FROM postings p JOIN worth ON worth.ord = p.ord CROSS JOIN size CROSS JOIN reach
            GROUP BY p.id
        )"""


def _counted(arguments: Arguments, frequencies: Frequencies | None) -> str:
    if frequencies is None:
        return """
            size AS MATERIALIZED (
                SELECT count(*)::integer AS rows,
                       greatest(round(coalesce(avg(word_count), 1), 3), 1)::float8 AS length
                FROM held
            ),
            known AS MATERIALIZED (
                SELECT words.ord, count(p.id)::integer AS occurs
                FROM words LEFT JOIN postings p ON p.ord = words.ord GROUP BY words.ord
            )"""
    rows = arguments.add(frequencies.rows, "integer")
    length = arguments.add(frequencies.length, "float8")
    occurs = arguments.add(list(frequencies.of_words), "integer[]")
    # A row that came since the first page may have a word more often than all rows had it then.
    return f"""
        size AS (SELECT {rows} AS rows, {length} AS length),
        known AS (
            SELECT k.ord, k.occurs FROM unnest({occurs}) WITH ORDINALITY AS k (occurs, ord)
        )"""


def _semantic(arguments: Arguments, ranking: Ranking) -> str:
    """SQL: `near`, the cosine of the best window of each row."""
    meaning = ranking.meaning
    if meaning is None:
        return "near AS (SELECT NULL::uuid AS id, NULL::float8 AS cosine WHERE false)"
    if meaning.near is not None:
        ids = arguments.add([id_ for id_, _ in meaning.near], "uuid[]")
        cosines = arguments.add([cosine for _, cosine in meaning.near], "float8[]")
        return f"near AS (SELECT * FROM unnest({ids}, {cosines}) AS n (id, cosine))"
    return f"""near AS (
        SELECT h.id, max(1 - {distance(arguments, meaning)}) AS cosine
        FROM held h JOIN memory_embeddings e
          ON e.organization_id = h.organization_id AND e.memory_id = h.id
         AND e.model = {arguments.add(meaning.model.id, "text")}
         AND e.content_sha256 = h.content_sha256
        WHERE e.created_at <= {arguments.add(ranking.now, "timestamptz")}
        GROUP BY h.id
    )"""


def distance(arguments: Arguments, meaning: Meaning) -> str:
    """SQL: the cosine distance of the query and a row `e` of the vectors."""
    schema = '"' + meaning.schema.replace('"', '""') + '"'
    vector = f"{arguments.add(vector_text(meaning.vector), 'text')}::{schema}.vector"
    return f"(e.embedding OPERATOR({schema}.<=>) {vector})"


def _literal(arguments: Arguments, ranking: Ranking) -> str:
    """SQL: `literal`, the rows with the identifier that the query is."""
    if not ranking.literal:
        return "literal AS (SELECT NULL::uuid AS id WHERE false)"
    return f"""literal AS (
        SELECT id FROM (
            SELECT id, content FROM held ORDER BY created_at DESC, id DESC LIMIT {_LITERAL_ROWS}
        ) newest WHERE strpos(content, {arguments.add(ranking.literal, "text")}) > 0
    )"""


def quoted(lexeme: str) -> str:
    """A word as a query of text search that means this word and nothing else."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def vector_text(vector: Sequence[float]) -> str:
    """A vector as the extension reads it."""
    return json.dumps([float(value) for value in vector], separators=(",", ":"))
