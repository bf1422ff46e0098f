"""The built-in store of memories on a real database, without a host."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

from molecule_grpc.core import Core
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.memory.helpers import SimilarTexts
from molecule_grpc.memory.opening import Rooms, open_memories
from molecule_grpc.memory.ports import AuditEntry
from molecule_grpc.memory.values import Committed, Draft, Similar
from tests.integration.cores import core_of
from tests.integration.workspaces import add, add_organization
from tests.settings import settings_of

COUNTED = """
    SELECT organization_id, namespace, count(*)::int AS memories,
           sum(octet_length(content) + earlier)::bigint AS bytes
    FROM memories m, LATERAL (
        SELECT coalesce(sum(octet_length(v.content)), 0) AS earlier FROM memory_versions v
        WHERE v.organization_id = m.organization_id AND v.memory_id = m.id
    ) texts
    GROUP BY 1, 2
"""


class Reader:
    """An embedder that is told of new texts and reads none."""

    def __init__(self, *, active: bool) -> None:
        self.active = active
        self.noticed = 0

    def notice(self) -> None:
        self.noticed += 1


class Alike:
    """A finder to which texts are similar when their first words are equal."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(
        self, organization_id: UUID, namespace: str, memory_id: UUID, content: str
    ) -> list[Similar]:
        rows = await self._pool.fetch(
            "SELECT id FROM memories WHERE organization_id = $1 AND namespace = $2 AND id <> $3"
            " AND split_part(content, ' ', 1) = split_part($4, ' ', 1) ORDER BY id",
            organization_id,
            namespace,
            memory_id,
            content,
        )
        return [Similar(row["id"], 0.9, 0.7) for row in rows]

    async def find_like(
        self, author_id: UUID, namespace: str, memory_id: UUID, content: str
    ) -> list[Similar]:
        organization: UUID = await self._pool.fetchval(
            "SELECT organization_id FROM workspaces WHERE id = $1", author_id
        )
        return await self.find(organization, namespace, memory_id, content)


class Bench:
    """The rooms, and what they entered into records."""

    def __init__(self, pool: Pool, core: Core, rooms: Rooms, audited: list[AuditEntry]) -> None:
        self.pool = pool
        self.core = core
        self.audited = audited
        self.rooms = rooms
        self.namespaces = rooms.namespaces
        self.commits = rooms.commits
        self.changes = rooms.changes
        self.reads = rooms.reads
        self.grants = rooms.grants
        self.upkeep = rooms.upkeep

    async def commit(self, author: UUID, content: str, **fields: Any) -> Committed:
        return await self.commits.commit(author, Draft(content=content, **fields))

    async def move(self, workspace: UUID, parent: UUID | None) -> None:
        await self.pool.execute(
            "UPDATE workspaces SET parent_id = $2 WHERE id = $1", workspace, parent
        )

    async def row(self, memory_id: UUID) -> dict[str, Any]:
        found = await self.pool.fetchrow("SELECT * FROM memories WHERE id = $1", memory_id)
        assert found is not None
        return dict(found)

    async def count(self) -> int:
        found: int = await self.pool.fetchval("SELECT count(*) FROM memories")
        return found

    async def events(self) -> list[tuple[str, UUID, str]]:
        rows = await self.pool.fetch(
            "SELECT event_type, workspace_id, payload::text FROM structure_events"
            " WHERE event_type LIKE 'MEMORY%' ORDER BY position"
        )
        return [tuple(row) for row in rows]

    async def require_true_counters(self) -> None:
        """Raise unless namespaces and organisations say what the rows say."""
        counted = {(row[0], row[1]): (row[2], row[3]) for row in await self.pool.fetch(COUNTED)}
        kept = {
            (row[0], row[1]): (row[2], row[3])
            for row in await self.pool.fetch(
                "SELECT organization_id, name, memories, bytes FROM memory_namespaces"
                " WHERE memories <> 0 OR bytes <> 0"
            )
        }
        assert kept == counted
        in_all = await self.pool.fetchrow(
            "SELECT coalesce(sum(memories), 0)::int, coalesce(sum(bytes), 0)::bigint"
            " FROM memory_usage"
        )
        assert in_all is not None
        assert tuple(in_all) == (
            sum(each[0] for each in counted.values()),
            sum(each[1] for each in counted.values()),
        )


@contextlib.asynccontextmanager
async def bench_of(
    pool: Pool,
    dsn: str,
    *,
    reader: Reader | None = None,
    similar: SimilarTexts | None = None,
    **settings: Any,
) -> AsyncIterator[Bench]:
    """The rooms over this database."""
    audited: list[AuditEntry] = []

    async def audit(conn: Connection, entries: Sequence[AuditEntry]) -> None:
        assert conn.is_in_transaction()
        audited.extend(entries)

    async with (
        core_of(pool, dsn, settings_of(**settings)) as core,
        open_memories(core, audit, reader=reader, similar=similar) as rooms,
    ):
        yield Bench(pool, core, rooms, audited)


class Tree:
    """A root with two teams: lead (with a and b) and peer; all of one organisation."""

    def __init__(self, organization: UUID, ids: list[UUID]) -> None:
        self.organization = organization
        self.root, self.lead, self.peer, self.a, self.b = ids

    @property
    def all(self) -> list[UUID]:
        return [self.root, self.lead, self.peer, self.a, self.b]


async def plant(pool: Pool) -> Tree:
    """A tree of three levels in an organisation of its own."""
    organization = await add_organization(pool)
    ids = await add(pool, 5, organization_id=organization)
    root, lead, peer, a, b = ids
    for child, parent in ((lead, root), (peer, root), (a, lead), (b, lead)):
        await pool.execute("UPDATE workspaces SET parent_id = $2 WHERE id = $1", child, parent)
    return Tree(organization, ids)
