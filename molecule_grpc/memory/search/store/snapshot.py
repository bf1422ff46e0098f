"""A transaction in which all statements of one search see the same rows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.memory.search.plan import Scope
from molecule_grpc.memory.search.store.query_words import WORDS, QueryWords, query_words
from molecule_grpc.memory.store.visible import visible

# The count of texts that are not read yet stops here: the answer is a hint.
_MOST_PENDING: Final = 10_000

# A statement is cancelled after 10 s; each of its sorts takes 32 MB of memory, then uses the disk.
_OPEN: Final = f"""
    SELECT now() AS now, set_config('statement_timeout', '10000', true),
           set_config('work_mem', '32MB', true),
           set_config('plan_cache_mode', 'force_custom_plan', true),
           ({WORDS}) AS words,
           ARRAY(
               SELECT name FROM unnest($2::text[]) WITH ORDINALITY asked (name, place)
               WHERE NOT EXISTS (
                   SELECT FROM memory_namespaces gone
                   WHERE gone.organization_id = $1 AND gone.name = asked.name
                     AND gone.expires_at <= now()
               )
               ORDER BY place
           ) AS namespaces,
           EXISTS (SELECT FROM memory_quarantine WHERE organization_id = $1) AS hides,
           (SELECT count(*)::integer FROM (
               SELECT FROM memories m
               WHERE m.organization_id = $1 AND m.namespace = ANY($2)
                 AND m.embed_state = 'pending' AND {visible("m", "$1")}
               LIMIT {_MOST_PENDING}
           ) counted) AS pending
"""


class Snapshot(NamedTuple):
    """An open transaction, and what every search asks first.

    Args:
        now: the time at which it began.
        scope: the rows that the search may see.
        words: of the query.
        pending: how many memories that anybody may see have no vector yet, up to 10,000.
    """

    connection: Connection
    now: datetime
    scope: Scope
    words: QueryWords
    pending: int


@contextlib.asynccontextmanager
async def snapshot(
    pool: Pool, organization_id: UUID, namespaces: Sequence[str], text: str
) -> AsyncIterator[Snapshot]:
    """A transaction that writes nothing. Raises Unavailable as `database_errors` does."""
    with database_errors():
        async with (
            pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            (row,) = await connection.fetch(_OPEN, organization_id, list(namespaces), text)
            scope = Scope(organization_id, row["namespaces"], row["hides"])
            words = query_words(row["words"])
            yield Snapshot(connection, row["now"], scope, words, row["pending"])
