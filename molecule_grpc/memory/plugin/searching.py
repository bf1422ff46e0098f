"""Searches of memories that a plugin keeps: rights and filters are the platform's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.memory.contract.errors import ErrorCode, StoreError
from molecule_grpc.memory.contract.objects import MOST_HITS, Capability, Memory, SearchRequest
from molecule_grpc.memory.embedding.port import Embedder
from molecule_grpc.memory.plugin import refusals
from molecule_grpc.memory.plugin.client import PluginClient
from molecule_grpc.memory.plugin.rows import row_of
from molecule_grpc.memory.plugin.store.authors import authors
from molecule_grpc.memory.plugin.wire_names import WireNames
from molecule_grpc.memory.search_values import Found, Hit, Query
from molecule_grpc.memory.values import Access, MemoryRow

# Rows asked for beyond the limit, in place of those that the platform leaves out.
_SPARE: Final = 20
_MOST_PAGES: Final = 200
_NO_WORDS: Final = "the memory plugin does not search by words"
_NO_MEANING: Final = "the memory plugin does not search by meaning"
_NO_PAGES: Final = "the memory plugin has no pages: at most 100 memories are compared"
_NO_AGE: Final = "the memory plugin does not count age"
_NO_AUTHORS: Final = (
    "the memory plugin does not tell authors, so a quarantine hides nothing of teams"
)


class _Asked(NamedTuple):
    request: SearchRequest
    mode: str
    degraded: list[str]


class PluginSearch:
    """Asks a plugin, and shows what the reader may see of its answer.

    Args:
        names: of an organisation in the plugin.
        embedder: for plugins that rank by vectors.
    """

    def __init__(
        self,
        pool: Pool,
        client: PluginClient,
        names: Callable[[Access], WireNames],
        embedder: Embedder,
    ) -> None:
        self._pool = pool
        self._client = client
        self._names = names
        self._embedder = embedder

    async def search(self, access: Access, query: Query) -> Found:
        """Search the readable ones of the requested namespaces; without any, nobody is asked.

        Raises:
            Invalid: a page token, which a plugin never gave.
            Unsupported: MEMORY_PLUGIN_UNSUPPORTED: `as_of`.
            Unavailable: MEMORY_PLUGIN_UNAVAILABLE.
        """
        if query.as_of is not None:
            raise refusals.unsupported("a search in the past")
        if query.page_token:
            raise Invalid("page_token is not one of this search", field="page_token")
        limit = min(max(query.limit or 20, 1), MOST_HITS)
        namespaces = access.chosen(query.namespaces)
        if not namespaces:
            return _found([], "recent", [], [], limit)
        names = self._names(access)
        asked = await self._asked(query, [names.namespace(each) for each in namespaces], limit)
        wires = dict(zip(asked.request.namespaces, namespaces, strict=True))
        try:
            memories = await self._client.search(asked.request)
        except StoreError as error:
            raise refusals.named(error, "search") from error
        rows = await self._shown(access, query, memories, wires, names)
        return _found(rows[:limit], asked.mode, namespaces, asked.degraded, limit)

    async def find(self, access: Access, namespace: str, memory_id: UUID) -> MemoryRow | None:
        """A memory of a namespace; None if it is not among those that the plugin shows.

        These are the newest 100, and of a plugin that lists memories the first 20,000.

        Raises:
            Unavailable: MEMORY_PLUGIN_UNAVAILABLE.
        """
        names = self._names(access)
        wire = names.namespace(namespace)
        async for memories in self._newest_and_all(wire):
            for row, _ in _rows(memories, {wire: namespace}, names):
                if row.id == memory_id:
                    return row
        return None

    async def _newest_and_all(self, wire: str) -> AsyncIterator[Sequence[Memory]]:
        try:
            yield await self._client.search(SearchRequest(namespaces=[wire], limit=MOST_HITS))
            cursor: str | None = ""
            for _ in range(_MOST_PAGES):
                if cursor is None or not self._client.supports(Capability.LIST):
                    return
                page = await self._client.page(wire, cursor)
                yield page.memories
                cursor = page.next_cursor
        except StoreError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise refusals.named(error, "search") from error

    async def _asked(self, query: Query, wires: list[str], limit: int) -> _Asked:
        filtered = query.tags or query.entities or query.author_id or query.label
        sourced = query.delegation_id or query.file_id
        timed = query.created_after or query.created_before
        most = MOST_HITS if filtered or sourced or timed else min(limit + _SPARE, MOST_HITS)
        degraded = [_NO_PAGES]
        if query.half_life_days:
            degraded.append(_NO_AGE)
        if not self._client.supports(Capability.PROPAGATION):
            degraded.append(_NO_AUTHORS)
        text = query.text.strip() if query.mode != "recent" else ""
        vector, mode = None, "recent"
        if text:
            if self._client.supports(Capability.FTS):
                mode = "lexical"
            else:
                degraded.append(_NO_WORDS)
            if query.mode != "lexical" and self._client.supports(Capability.EMBEDDING):
                vector = await self._embedder.query(text)
            if vector is not None:
                mode = "semantic"
            elif query.mode != "lexical":
                degraded.append(_NO_MEANING)
        request = SearchRequest(
            namespaces=wires,
            query=text,
            kinds=list(dict.fromkeys(query.kinds)),
            limit=most,
            embedding=None if vector is None else list(vector),
        )
        return _Asked(request, mode, degraded)

    async def _shown(
        self,
        access: Access,
        query: Query,
        memories: Sequence[Memory],
        wires: dict[str, str],
        names: WireNames,
    ) -> list[Hit]:
        now = datetime.now(UTC)
        rows = [
            (row, score)
            for row, score in _rows(memories, wires, names)
            if _holds(row, now) and _wanted(row, query) and not _weak(score, query.min_score)
        ]
        ids = list({row.author_id for row, _ in rows if row.author_id is not None})
        with database_errors():
            known = await authors(self._pool, access.organization_id, ids) if ids else {}
        hits = []
        for row, score in rows:
            author = None if row.author_id is None else known.get(row.author_id)
            if author is not None and not author.trusted:
                continue
            shown = row._replace(author_name=author.name if author else None)
            hits.append(Hit(row=shown, score=score if query.text else None))
        return hits


def _rows(
    memories: Sequence[Memory], wires: dict[str, str], names: WireNames
) -> list[tuple[MemoryRow, float | None]]:
    rows = []
    for memory in memories:
        try:
            rows.append((row_of(memory, wires[memory.namespace], names), memory.score))
        except Invalid:
            # An id that could forge a header, or that nobody could send back.
            continue
    return rows


def _holds(row: MemoryRow, now: datetime) -> bool:
    return row.valid_from <= now and (row.valid_to is None or row.valid_to > now)


def _wanted(row: MemoryRow, query: Query) -> bool:
    return (
        set(query.tags) <= set(row.tags)
        and set(query.entities) <= set(row.entities)
        and query.author_id in (None, row.author_id)
        and query.label in ("", row.label)
        and query.delegation_id in ("", row.delegation_id)
        and query.file_id in (None, row.file_id)
        and (query.created_after is None or row.created_at >= query.created_after)
        and (query.created_before is None or row.created_at < query.created_before)
    )


def _weak(score: float | None, least: float) -> bool:
    return score is not None and score < least


def _found(
    hits: list[Hit], mode: str, namespaces: list[str], degraded: list[str], limit: int
) -> Found:
    return Found(
        hits=hits,
        mode_used=mode,
        searched_namespaces=namespaces,
        embed_pending=0,
        # A plugin's scores have no scale, so no hit is more than a guess.
        confidence="low" if hits else "none",
        next_page_token="",
        limit=limit,
        degraded=degraded,
    )
