"""The rows behind hits, with what an explanation needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.memory.search.plan import Scope, Word
from molecule_grpc.memory.search.store.arguments import Arguments
from molecule_grpc.memory.search.store.held import held
from molecule_grpc.memory.search_values import Query
from molecule_grpc.memory.store.visible import beside, visible
from molecule_grpc.memory.values import MemoryRow

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
    scope: Scope,
    query: Query,
    words: Sequence[Word],
    ids: Sequence[UUID],
) -> dict[UUID, HitRow]:
    """The rows with these ids, by id, with the texts that they had at `query.as_of`.

    Rows behind the first 2.5 MiB are left out; the first row never is.
    """
    arguments = Arguments()
    rows = held(arguments, scope, query.as_of, ids)
    lexemes = arguments.add([word.lexeme for word in words], "text[]")
    asked = arguments.add(list(ids), "uuid[]")
    found = await connection.fetch(
        f"""
        WITH held AS NOT MATERIALIZED ({rows}),
        fitting AS (
            SELECT h.*, array_position({asked}, h.id) AS place, sum(
                {_BYTES_BESIDE_TEXT} + octet_length(h.content)
                + 4 * coalesce(octet_length(h.metadata::text), 0)
            ) OVER (ORDER BY array_position({asked}, h.id)) AS filled
            FROM held h
        )
        SELECT m.id, m.namespace, m.content, m.kind, m.source, m.tags, m.entities, m.label,
               m.author_id, author.name AS author_name, m.pinned, m.created_at, m.updated_at,
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
               ) THEN m.superseded_by END AS superseded_by, m.version, m.delegation_id, m.file_id,
               m.metadata::text AS metadata, m.embed_state,
               ARRAY(
                   SELECT word FROM unnest({lexemes}) word
                   WHERE word = ANY(tsvector_to_array(m.words))
               ) AS matched
        FROM fitting m LEFT JOIN workspaces author
          ON author.id = m.author_id AND author.organization_id = m.organization_id
        WHERE m.filled <= {_MOST_BYTES} OR m.place = 1
        """,
        *arguments.values,
    )
    return {row["id"]: HitRow(MemoryRow(*list(row.values())[:-1]), row["matched"]) for row in found}
