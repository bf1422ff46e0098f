"""The use cases of memories over a plugin, on a real database without a host."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from aiohttp import web

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.memory.embedding.port import NoEmbedder
from molecule_grpc.memory.memories import Memories
from molecule_grpc.memory.namespaces import Namespaces
from molecule_grpc.memory.plugin.client import PluginClient
from molecule_grpc.memory.plugin.memories import PluginMemories
from molecule_grpc.memory.ports import AuditEntry
from molecule_grpc.memory.rates import CommitRate
from molecule_grpc.memory.scoped import ScopedMemories
from molecule_grpc.memory.search_values import Query
from tests.integration.workspaces import add, add_organization
from tests.plugin_servers import serving


class Bench:
    """The use cases over a plugin, what the record was told, and what the plugin was asked."""

    def __init__(self, pool: Pool, client: PluginClient) -> None:
        self.pool = pool
        self.audited: list[AuditEntry] = []
        self.audit_fails = False
        self.plugin = PluginMemories(
            pool,
            client,
            key=bytes(32),
            audit=self._audit,
            rate=CommitRate(0),
            embedder=NoEmbedder(),
        )
        self.memories = Memories(
            Namespaces(pool), self.plugin, self.plugin, self.plugin, self.plugin
        )
        self.scoped = ScopedMemories(self.memories, self.plugin)
        self.client = client

    async def _audit(self, _: Connection, entries: Sequence[AuditEntry]) -> None:
        if self.audit_fails:
            raise RuntimeError("no record")
        self.audited += entries

    async def texts(self, reader: UUID, text: str = "", **more: object) -> list[str]:
        found = await self.memories.search(reader, Query(text=text, **more))  # type: ignore[arg-type]
        return [hit.row.content for hit in found.hits]


class Family:
    """A root with two children, and another organisation's root."""

    def __init__(self, root: UUID, one: UUID, other: UUID, stranger: UUID) -> None:
        self.root, self.one, self.other, self.stranger = root, one, other, stranger


@contextlib.asynccontextmanager
async def bench_of(
    pool: Pool, app: web.Application, asked: list[str] | None = None
) -> AsyncIterator[Bench]:
    if asked is not None:

        @web.middleware
        async def note(request: web.Request, handler: object) -> web.StreamResponse:
            asked.append(f"{request.method} {request.path} {await request.text()}")
            return await handler(request)  # type: ignore[operator,no-any-return]

        app.middlewares.append(note)
    async with serving(app) as url, PluginClient(url, 2.0) as client:
        await client.refresh()
        yield Bench(pool, client)


async def family_in(pool: Pool) -> Family:
    """A new family."""
    [root] = await add(pool)
    one, other = await add(pool, 2, parent_id=root)
    [stranger] = await add(pool, organization_id=await add_organization(pool))
    return Family(root, one, other, stranger)
