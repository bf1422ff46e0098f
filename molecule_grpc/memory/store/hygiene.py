"""The SQL that looks for what the agents of a namespace may want to mend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.memory.store.visible import current, holding, replaced, visible

# The newest memories of the namespace, as far as a report looks at them.
MAX_LOOKED_AT: Final = 50_000
MAX_FINDINGS: Final = 20
MAX_IDS: Final = 50
# A memory that nobody has recalled for so long may be of no use.
_UNUSED = "interval '30 days'"
_MOST_SECONDS = 10
_LONG_BYTES = 8_192
_LONGEST = 5
_NOISY_LEAST = 20

# `rows` are read once. `stem` has the words of a text without their order: texts that differ by
# capitals, punctuation and endings have the same.
_ROWS = f"""
    rows AS MATERIALIZED (
        SELECT m.id, m.content_sha256, md5(strip(m.words)::text) AS stem, m.word_count,
               m.created_at, m.author_id, m.valid_to, m.last_recalled_at, m.redactions,
               m.superseded_by, {replaced("m")} AS replaced, m.delegation_id,
               octet_length(m.content) AS size,
               {holding("m")} AS holds
        FROM memories m
        WHERE m.organization_id = $1 AND m.namespace = $2 AND {visible("m")}
        ORDER BY m.created_at DESC, m.id DESC LIMIT {MAX_LOOKED_AT}
    )
"""


def _listed(problem: str, condition: str, detail: str, *, newest: bool = False) -> str:
    """One finding with all rows of a condition."""
    order = "created_at DESC, id DESC" if newest else "created_at, id"
    return f"""
        SELECT '{problem}' AS problem, (array_agg(id ORDER BY {order}))[:{MAX_IDS}] AS ids,
               {detail} AS detail, count(*)::int AS count
        FROM rows WHERE {condition} HAVING count(*) > 0
    """


def _grouped(problem: str, column: str, condition: str, detail: str) -> str:
    """A finding for each group of memories that hold, the largest first."""
    return f"""
        (SELECT '{problem}', (array_agg(id ORDER BY created_at, id))[:{MAX_IDS}], {detail},
                count(*)::int
         FROM rows WHERE holds AND {condition}
         GROUP BY {column} HAVING count(*) > 1 AND count(DISTINCT content_sha256) {{distinct}}
         ORDER BY count(*) DESC, min(id::text) LIMIT {MAX_FINDINGS})
    """


_FINDINGS = f"""
    WITH {_ROWS}
    {
    _grouped("exact_duplicate", "content_sha256", "true", "'the same text'").format(distinct="= 1")
}
    UNION ALL
    {
    _grouped("near_duplicate", "stem", "word_count > 2", "'the same words'").format(distinct="> 1")
}
    UNION ALL
    {
    _listed(
        "never_recalled",
        f"holds AND last_recalled_at IS NULL AND created_at < now() - {_UNUSED}",
        "'older than 30 days, and no search or read has returned it'",
    )
}
    UNION ALL
    {
    _listed(
        "expired_validity",
        "NOT replaced AND valid_to <= now()",
        "'no longer holds, and nothing took its place'",
    )
}
    UNION ALL
    {
    _listed(
        "dead_reference",
        '''superseded_by IS NOT NULL AND NOT EXISTS (
               SELECT FROM memories w
               WHERE w.id = rows.superseded_by AND (w.organization_id = $1) IS TRUE)
           OR delegation_id IS NOT NULL AND NOT EXISTS (
               SELECT FROM delegations d
               WHERE d.delegation_id = rows.delegation_id AND d.organization_id = $1)''',
        "'replaced by a memory that was forgotten, or from a delegation that is gone'",
    )
}
    UNION ALL
    (SELECT 'longest', array_agg(id ORDER BY size DESC, id),
            max(size) || ' bytes: a memory is best a statement', count(*)::int
     FROM (SELECT id, size FROM rows WHERE holds AND size > {_LONG_BYTES}
           ORDER BY size DESC, id LIMIT {_LONGEST}) long
     HAVING count(*) > 0)
    UNION ALL
    (SELECT 'noisiest_author', (array_agg(id ORDER BY created_at DESC, id))[:{MAX_IDS}],
            'workspace ' || author_id || ' wrote ' || count(*) || ' of '
                || (SELECT count(*) FROM rows WHERE holds), count(*)::int
     FROM rows WHERE holds AND author_id IS NOT NULL AND $2 NOT LIKE 'workspace:%'
     GROUP BY author_id
     HAVING count(*) >= {_NOISY_LEAST}
        AND 2 * count(*) > (SELECT count(*) FROM rows WHERE holds)
     ORDER BY count(*) DESC LIMIT 1)
    UNION ALL
    {_listed("redacted", "holds AND redactions > 0", "'secrets were replaced'", newest=True)}
"""

_TOTALS = f"""
    SELECT count(*)::int, coalesce(sum(octet_length(m.content)), 0)::bigint,
           coalesce(avg((m.redactions > 0)::int), 0)::float
    FROM (
        SELECT * FROM memories m
        WHERE m.organization_id = $1 AND m.namespace = $2 AND {holding("m")} AND {visible("m")}
        ORDER BY m.created_at DESC, m.id DESC LIMIT {MAX_LOOKED_AT}
    ) m
"""


@dataclass(frozen=True, slots=True)
class Found:
    """Something to mend. The order of the fields is that of the statement."""

    problem: str
    memory_ids: list[UUID]
    detail: str
    count: int


class Totals(NamedTuple):
    """What a namespace holds now."""

    memories: int
    bytes: int
    redacted_share: float


async def look(pool: Pool, organization_id: UUID, namespace: str) -> tuple[Totals, list[Found]]:
    """What a namespace holds, and what may be mended, among its newest 50,000 memories.

    Both are of one moment. Raises `QueryCanceledError` after 10 s.
    """
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
    ):
        await conn.execute(f"SET LOCAL statement_timeout = '{_MOST_SECONDS}s'")
        totals = await conn.fetchrow(_TOTALS, organization_id, namespace)
        found = await conn.fetch(_FINDINGS, organization_id, namespace)
    assert totals is not None
    return Totals(*totals), [Found(*row) for row in found]


async def newest(
    pool: Pool, organization_id: UUID, namespace: str, *, limit: int
) -> list[tuple[UUID, str]]:
    """Ids and texts of the newest memories that hold."""
    rows = await pool.fetch(
        f"""
        SELECT m.id, m.content FROM memories m
        WHERE m.organization_id = $1 AND m.namespace = $2 AND {current("m")}
        ORDER BY m.created_at DESC, m.id DESC LIMIT $3
        """,
        organization_id,
        namespace,
        limit,
    )
    return [(row["id"], row["content"]) for row in rows]
