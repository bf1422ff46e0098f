"""The rows behind hits, with what an explanation needs, and how many texts are not read yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.memory.search.plan import Word
from molecule_grpc.memory.search.store.arguments import Arguments
from molecule_grpc.memory.search.store.held import held
from molecule_grpc.memory.store.visible import beside, visible
from molecule_grpc.memory.values import MemoryRow, Query

# The count of pending texts stops here: the answer is a hint.
_MOST_PENDING: Final = 10_000
_MOST_REPLACED: Final = 100
# Bytes of the rows of one page; in a message `metadata` takes up to four times as many.
_MOST_BYTES: Final = 5 * 1024 * 1024 // 2
_BYTES_BESIDE_TEXT: Final = 2000


class HitRow(NamedTuple):
    """A row, and which words of the query its text has."""

    row: MemoryRow
    matched: list[str]


async def hit_rows(
    connection: Connection,
    organization_id: UUID,
    namespaces: Sequence[str],
    query: Query,
    words: Sequence[Word],
    ids: Sequence[UUID],
) -> dict[UUID, HitRow]:
    """The rows with these ids, by id, with the texts that they had at `query.as_of`.

    Rows behind the first 2.5 MiB are left out; the first row never is.
    """
    arguments = Arguments()
    rows = held(arguments, organization_id, namespaces, query.as_of, ids)
    lexemes = arguments.add([word.lexeme for word in words], "text[]")
    fitting = _fitting(rows, arguments.add(list(ids), "uuid[]"))
    found = await connection.fetch(
        f"""
        WITH {fitting}
        SELECT h.id, h.namespace, h.content, m.kind, m.source, m.tags, m.entities, m.label,
               h.author_id, author.name AS author_name, m.pinned, m.created_at, m.updated_at,
               m.expires_at, m.valid_from, m.valid_to,
               ARRAY(
                   SELECT earlier.id FROM memories earlier
                   WHERE earlier.superseded_by = m.id
                     AND {beside("earlier", "m")} AND {visible("earlier")}
                   ORDER BY earlier.superseded_at, earlier.id LIMIT {_MOST_REPLACED}
               ) AS supersedes,
               CASE WHEN EXISTS (
                   SELECT FROM memories later
                   WHERE later.id = m.superseded_by
                     AND {beside("later", "m")} AND {visible("later")}
               ) THEN m.superseded_by END AS superseded_by, h.version, m.delegation_id, m.file_id,
               m.metadata::text AS metadata, m.embed_state,
               ARRAY(
                   SELECT word FROM unnest({lexemes}) word
                   WHERE word = ANY(tsvector_to_array(h.words))
               ) AS matched
        FROM fitting JOIN held h ON h.id = fitting.id
        JOIN memories m ON m.id = h.id AND (m.organization_id = h.organization_id) IS TRUE
        LEFT JOIN workspaces author
          ON author.id = h.author_id AND author.organization_id = m.organization_id
        """,
        *arguments.values,
    )
    return {row["id"]: HitRow(MemoryRow(*list(row.values())[:-1]), row["matched"]) for row in found}


def _fitting(rows: str, ids: str) -> str:
    """SQL: CTEs, `held` with the rows, and `fitting` with the ids of rows in the first 2.5 MiB."""
    return f"""
        held AS NOT MATERIALIZED ({rows}),
        asked AS (
            SELECT * FROM unnest({ids}) WITH ORDINALITY AS asked (id, ord)
        ),
        sizes AS (
            SELECT asked.id, asked.ord, {_BYTES_BESIDE_TEXT} + octet_length(h.content)
                   + 4 * coalesce(octet_length(m.metadata::text), 0) AS bytes
            FROM asked JOIN held h ON h.id = asked.id
            JOIN memories m ON m.id = h.id AND (m.organization_id = h.organization_id) IS TRUE
        ),
        fitting AS (
            SELECT id FROM (
                SELECT id, bytes, ord, sum(bytes) OVER (ORDER BY ord) AS filled FROM sizes
            ) running
            WHERE filled <= {_MOST_BYTES} OR ord = 1
        )
    """


async def pending(connection: Connection, organization_id: UUID, namespaces: Sequence[str]) -> int:
    """How many memories that anybody may see have no vector yet, up to 10,000."""
    count: int = await connection.fetchval(
        f"""
        SELECT count(*)::integer FROM (
            SELECT FROM memories m
            WHERE m.organization_id = $1 AND m.namespace = ANY($2) AND m.embed_state = 'pending'
              AND {visible("m")}
            LIMIT {_MOST_PENDING}
        ) counted
        """,
        organization_id,
        list(namespaces),
    )
    return count
