"""The rows nearest to a query by the index of its model, where all are too many to compare."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.memory.search.plan import Meaning, Scope
from molecule_grpc.memory.search.store.arguments import Arguments
from molecule_grpc.memory.search.store.held import held, wanted
from molecule_grpc.memory.search.store.literals import schema_of
from molecule_grpc.memory.search_values import Query

# Vectors that are taken from the index, and rows of other readers that it may pass on the way.
CANDIDATES: Final = 400
_MOST_PASSED: Final = 50_000
# An index holds vectors up to 2,000 dimensions as they are, and up to 4,000 at half precision.
_FULL_PRECISION: Final = 2000
INDEXED_DIMENSIONS: Final = 4000
# The index is walked in order of distance, row by row: no plan may sort all rows instead.
_WALK = f"""
    SET LOCAL hnsw.iterative_scan = strict_order;
    SET LOCAL hnsw.ef_search = {CANDIDATES};
    SET LOCAL hnsw.max_scan_tuples = {_MOST_PASSED};
    SET LOCAL enable_sort = off;
    SET LOCAL enable_hashjoin = off;
    SET LOCAL enable_mergejoin = off;
    SET LOCAL enable_seqscan = off
"""
_PLAIN = """
    SET LOCAL enable_sort = on;
    SET LOCAL enable_hashjoin = on;
    SET LOCAL enable_mergejoin = on;
    SET LOCAL enable_seqscan = on
"""


async def nearest(
    connection: Connection,
    scope: Scope,
    query: Query,
    meaning: Meaning,
    now: datetime,
) -> list[tuple[UUID, float]]:
    """The rows of the nearest 400 vectors, each with its best cosine; fewer for narrow filters.

    Call it in a transaction, and compare with all rows where fewer come back than a page needs.
    """
    arguments = Arguments()
    schema = schema_of(meaning)
    kind = "vector" if meaning.model.dimensions <= _FULL_PRECISION else "halfvec"
    form = f"{schema}.{kind}({meaning.model.dimensions})"
    rows = held(arguments, scope, query.as_of)
    vector = arguments.add(list(meaning.vector), "real[]")
    # The model is written out: the index is of this model alone, which a parameter would not prove.
    model = "'" + meaning.model.id.replace("'", "''") + "'"
    sql = f"""
        WITH held AS NOT MATERIALIZED ({rows}),
        walk AS MATERIALIZED (
            SELECT e.memory_id AS id,
                   1 - (e.embedding::{form} OPERATOR({schema}.<=>) {vector}::{form}) AS cosine
            FROM memory_embeddings e
            JOIN held h ON e.organization_id = h.organization_id AND e.memory_id = h.id
                       AND e.content_sha256 = h.content_sha256
            WHERE e.model = {model} AND e.created_at <= {arguments.add(now, "timestamptz")}
              AND {wanted(arguments, query)}
            ORDER BY e.embedding::{form} OPERATOR({schema}.<=>) {vector}::{form}
            LIMIT {CANDIDATES}
        )
        SELECT id, max(cosine) AS cosine FROM walk GROUP BY id
    """
    await connection.execute(_WALK)
    found = await connection.fetch(sql, *arguments.values)
    await connection.execute(_PLAIN)
    return [(row["id"], row["cosine"]) for row in found]
