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
from molecule_grpc.memory.embedding.port import Vector
from molecule_grpc.memory.search.plan import Frequencies, Meaning, Place, Ranked, Scope, Word
from molecule_grpc.memory.search.store.arguments import Arguments
from molecule_grpc.memory.search.store.held import held, wanted
from molecule_grpc.memory.search.store.literals import quoted, schema_of
from molecule_grpc.memory.search_values import Query

# Of BM25: how soon a repeated word counts no more, and how much long texts are held back.
_K1: Final = 1.2
_B: Final = 0.75
# A row whose vector is not there yet stands where a row would whose meaning fits as its words do.
_WITHOUT_VECTOR: Final = 0.6
# Above every score that words and meaning can reach.
EXACT_BONUS: Final = 2.0
# In longer texts a query of one identifier is looked for only where some of its words occur.
_LITERAL_BYTES: Final = 8_000
_MILLION: Final = 1_000_000
# The sum of 1/i² over all i.
_LIMIT: Final = 1.64493406685


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

    scope: Scope
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
    rows = await connection.fetch(_statement(arguments, ranking), *arguments.values)
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
    return Frequencies(rows[0]["rows"], rows[0]["length"], tuple(rows[0]["of_words"]))


def _statement(arguments: Arguments, ranking: Ranking) -> str:
    """One pass over the rows computes each row's scores; sums and a join with 1 row follow.

    A join of rows with their scores would be planned by guesses of how many have any. OFFSET 0:
    what is read several times is computed once. Words and vectors are parameters that the plan of
    this one search reads once, see `snapshot`.
    """
    numbers = range(1, len(ranking.words) + 1)
    rows = held(arguments, ranking.scope, ranking.query.as_of)
    words = [quoted(word.lexeme) for word in ranking.words]
    any_word = f"held.words @@ {_word(arguments, ' | '.join(words))}" if words else "false"
    of_words = ", ".join(f"o{number}" for number in numbers)
    return f"""
        WITH seen AS MATERIALIZED (
            SELECT h.id, h.created_at, h.word_count, h.any_word,
                   {wanted(arguments, ranking.query)} AS wanted,
                   {_semantic(arguments, ranking)} AS cosine,
                   {_literal(arguments, ranking)} AS exact
                   {_times(arguments, words)}
            FROM (SELECT held.*, {any_word} AS any_word FROM ({rows}) held OFFSET 0) h
        ),
        size AS MATERIALIZED ({_size(arguments, ranking)}),
        worth AS MATERIALIZED (
            SELECT {"".join(f"{_worth(number)} AS w{number}, " for number in numbers)} length
            FROM size
        ),
        weights AS MATERIALIZED (SELECT worth.*, {_reach(ranking)} AS most FROM worth),
        found AS (
            SELECT seen.*, weights.*, {_K1}::float8 * ({1 - _B}::float8
                   + {_B}::float8 * word_count / weights.length) AS long
            FROM seen CROSS JOIN weights
            WHERE seen.wanted AND (seen.cosine IS NOT NULL OR seen.any_word OR seen.exact)
            OFFSET 0
        ),
        shares AS (SELECT found.*, {_share(ranking)} AS share FROM found OFFSET 0),
        scored AS (
            SELECT s.id, s.created_at, s.cosine, s.share, s.exact, s.recency,
                   round((({_sum(arguments, ranking)}) * s.recency
                       + CASE WHEN s.exact THEN {EXACT_BONUS}::float8 ELSE 0 END) * {_MILLION}
                   )::bigint AS units
            FROM (SELECT h.*, {_recency(arguments, ranking)} AS recency FROM shares h) s
            OFFSET 0
        )
        SELECT hit.*, size.rows, size.length, ARRAY[{of_words}]::integer[] AS of_words
        FROM ({_page(arguments, ranking)}) hit CROSS JOIN size
        ORDER BY hit.units DESC, hit.created_at DESC, hit.id DESC
    """


def _word(arguments: Arguments, query: str) -> str:
    """SQL: a query of words."""
    return f"{arguments.add(query, 'text')}::tsquery"


def _times(arguments: Arguments, words: Sequence[str]) -> str:
    """SQL: columns, how often a row has each word; NULL where it has not.

    Most rows have none of the words, and are not asked for each.
    """
    columns = []
    for number, lexeme in enumerate(words, 1):
        word = _word(arguments, lexeme)
        has = "h.any_word" if len(words) == 1 else f"h.any_word AND h.words @@ {word}"
        columns.append(f", CASE WHEN {has} THEN {_occurrences('h.words', word)} END AS t{number}")
    return "".join(columns)


def _occurrences(words: str, word: str) -> str:
    """SQL: how often a text has a word that it has, up to 256.

    `memory_occurrences` in migration 24 explains the formula. Written out: Postgres calls that
    function for each row, as GREATEST keeps it from being inlined: three times as slow.
    """
    rank = f"ts_rank('{{1,1,1,1}}', {words}, {word})::float8"
    return f"round(1 / ({_LIMIT}::float8 * greatest(1 - {rank}, 0.001)) - 0.5)"


def _semantic(arguments: Arguments, ranking: Ranking) -> str:
    """SQL: the cosine of the best window of a row; NULL without one."""
    meaning = ranking.meaning
    if meaning is None:
        return "NULL::float8"
    if meaning.near is not None:
        near = json.dumps({str(id_): cosine for id_, cosine in meaning.near})
        return f"({arguments.add(near, 'jsonb')} ->> h.id::text)::float8"
    now, schema = arguments.add(ranking.now, "timestamptz"), schema_of(meaning)

    def best(model: str, vector: Vector) -> str:
        asked = f"{arguments.add(list(vector), 'real[]')}::{schema}.vector"
        return f"""(
            SELECT max(1 - (e.embedding OPERATOR({schema}.<=>) {asked}))
            FROM memory_embeddings e
            WHERE e.organization_id = h.organization_id AND e.memory_id = h.id
              AND e.model = {arguments.add(model, "text")}
              AND e.content_sha256 = h.content_sha256 AND e.created_at <= {now}
        )"""

    cosine = best(meaning.model.id, meaning.vector)
    if meaning.earlier is None:
        return cosine
    return f"coalesce({cosine}, {best(*meaning.earlier)})"


def _literal(arguments: Arguments, ranking: Ranking) -> str:
    """SQL: whether a row has the identifier that the query is."""
    if not ranking.literal:
        return "false"
    short = f"octet_length(h.content) <= {_LITERAL_BYTES}"
    return f"""CASE WHEN {short} OR h.any_word
        THEN strpos(h.content, {arguments.add(ranking.literal, "text")}) > 0 ELSE false END"""


def _size(arguments: Arguments, ranking: Ranking) -> str:
    """SQL: one row of how many rows there are, how long they are, and which words they have."""
    known, numbers = ranking.frequencies, range(1, len(ranking.words) + 1)
    if known is not None:
        rows = arguments.add(known.rows, "integer")
        length = arguments.add(known.length, "float8")
        occurs = "".join(
            f", {arguments.add(count, 'integer')} AS o{number}"
            for number, count in enumerate(known.of_words, 1)
        )
        return f"SELECT {rows} AS rows, {length} AS length{occurs}"
    occurs = "".join(f", count(t{number})::integer AS o{number}" for number in numbers)
    return f"""
        SELECT count(*)::integer AS rows,
               greatest(round(coalesce(avg(word_count), 1), 3), 1)::float8 AS length{occurs}
        FROM seen
    """


def _worth(number: int) -> str:
    """SQL: what a word is worth, the more the fewer rows have it."""
    return f"ln(1 + (rows - o{number} + 0.5::float8) / (o{number} + 0.5::float8))"


def _reach(ranking: Ranking) -> str:
    """SQL: the most that the query can reach, which is in the language that knows most of it."""
    languages = {language for word in ranking.words for language in word.languages}
    sums = [
        " + ".join(
            f"w{number}"
            for number, word in enumerate(ranking.words, 1)
            if language in word.languages
        )
        for language in sorted(languages)
    ]
    return f"{_K1 + 1}::float8 * greatest({', '.join(sums)})" if sums else "1::float8"


def _share(ranking: Ranking) -> str:
    """SQL: BM25 of a row as a share of the most; NULL without any of the words."""
    if not ranking.words:
        return "NULL::float8"
    sums = " + ".join(
        f"coalesce(w{number} * t{number} / (t{number} + long), 0)"
        for number in range(1, len(ranking.words) + 1)
    )
    return f"CASE WHEN any_word THEN least(1, ({sums}) * {_K1 + 1}::float8 / most) END"


def _sum(arguments: Arguments, ranking: Ranking) -> str:
    """SQL: the score before age and exactness."""
    if ranking.meaning is None:
        return "coalesce(s.share, 0)"
    if not ranking.words:
        return "coalesce(s.cosine, 0)"
    weight = arguments.add(ranking.weight, "float8")
    return f"""CASE WHEN s.cosine IS NULL
        THEN ({weight} + {_WITHOUT_VECTOR}::float8) * coalesce(s.share, 0)
        ELSE s.cosine + {weight} * coalesce(s.share, 0) END"""


def _recency(arguments: Arguments, ranking: Ranking) -> str:
    if not ranking.query.half_life_days:
        return "1::float8"
    now = arguments.add(ranking.now, "timestamptz")
    half_life = arguments.add(ranking.query.half_life_days * 86_400, "float8")
    # An exponent below -1,000 is out of a float's range.
    return f"""0.5::float8 ^ least(
        greatest(extract(epoch FROM {now} - h.created_at)::float8 / {half_life}, 0), 1000)"""


def _page(arguments: Arguments, ranking: Ranking) -> str:
    """SQL: the hits of the page; or only the memory `ranking.only`, with its rank."""
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
