"""The SQL that reads memories by id, and the chains that they form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.page import MAX_PAGE_BYTES
from molecule_grpc.memory.store.rows import AUTHOR, COLUMNS, memory_row
from molecule_grpc.memory.store.visible import trusted, visible
from molecule_grpc.memory.values import MemoryRow, VersionRow

MAX_TEXTS: Final = 1_000

_GET = f"""
    SELECT {COLUMNS} FROM memories m {AUTHOR}
    WHERE m.id = $2 AND (m.organization_id = $1) IS TRUE AND m.namespace = ANY ($3::text[])
      AND {visible("m")}
"""

# The walk goes from a memory up through at most 1,000 successors, then down to all memories that
# these replaced, level by level, and ends at 2,000 memories.
_CHAIN = f"""
    WITH RECURSIVE up (id, namespace, next) AS (
        SELECT m.id, m.namespace, m.superseded_by FROM memories m
        WHERE m.id = $2 AND (m.organization_id = $1) IS TRUE AND m.namespace = ANY ($3::text[])
          AND {visible("m")}
        UNION
        SELECT m.id, m.namespace, m.superseded_by FROM up
        JOIN memories m ON m.id = up.next AND (m.organization_id = $1) IS TRUE
            AND (m.namespace = up.namespace) IS TRUE
    ),
    chain (id, namespace) AS (
        SELECT * FROM (SELECT id, namespace FROM up LIMIT {MAX_TEXTS}) u
        UNION
        SELECT x.id, x.namespace FROM chain
        JOIN memories x ON x.superseded_by = chain.id AND (x.organization_id = $1) IS TRUE
            AND (x.namespace = chain.namespace) IS TRUE
    ),
    members AS MATERIALIZED (
        SELECT m.* FROM (SELECT id FROM chain LIMIT {2 * MAX_TEXTS}) c
        JOIN memories m ON m.id = c.id AND (m.organization_id = $1) IS TRUE
        WHERE m.namespace = ANY ($3::text[]) AND {visible("m")}
    ),
    texts AS (
        SELECT id AS memory_id, namespace, version, content, change, author_id, known_from,
               superseded_at AS known_to
        FROM members
        UNION ALL
        SELECT v.memory_id, m.namespace, v.version, v.content, v.change, v.author_id, v.known_from,
               v.known_to
        FROM members m JOIN memory_versions v
            ON v.organization_id = m.organization_id AND v.memory_id = m.id
        WHERE {trusted("m.organization_id", "v.author_id")}
    ),
    first AS (
        SELECT * FROM texts ORDER BY known_from, memory_id, version LIMIT {MAX_TEXTS + 1}
    ),
    measured AS (
        SELECT *, row_number() OVER through AS number, count(*) OVER () AS found,
               sum(octet_length(content)) OVER through AS bytes_so_far
        FROM first
        WINDOW through AS (ORDER BY known_from, memory_id, version ROWS UNBOUNDED PRECEDING)
    )
    SELECT memory_id, namespace, version, content, change, author_id, known_from, known_to, found
    FROM measured
    WHERE number = 1 OR (number <= {MAX_TEXTS} AND bytes_so_far <= $4)
    ORDER BY known_from, memory_id, version
"""


class Texts(NamedTuple):
    """Texts of a chain, oldest first.

    Args:
        truncated: whether there are more than fit.
    """

    rows: list[VersionRow]
    truncated: bool


async def get(
    pool: Pool, organization_id: UUID, memory_id: UUID, namespaces: Sequence[str]
) -> MemoryRow | None:
    """A memory that can be seen in these namespaces."""
    row = await pool.fetchrow(_GET, organization_id, memory_id, namespaces)
    return None if row is None else memory_row(row)


async def chain(
    pool: Pool,
    organization_id: UUID,
    memory_id: UUID,
    namespaces: Sequence[str],
    *,
    max_bytes: int = MAX_PAGE_BYTES,
) -> Texts:
    """The texts of the chain of a memory, oldest first: at most 1,000, and `max_bytes`.

    The first text is given whatever its size. Of a longer chain 2,000 memories are read: the
    successors of the memory, then the others. No texts where the memory cannot be seen.
    """
    rows = await pool.fetch(_CHAIN, organization_id, memory_id, namespaces, max_bytes)
    texts = [VersionRow(*list(row)[:-1]) for row in rows]
    return Texts(texts, truncated=bool(rows) and rows[0]["found"] > len(texts))
