"""Finding memories by word and by meaning, best first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import NotFound, Unavailable
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.memory.embedding.port import Embedder, EmbeddingModel, Vector
from molecule_grpc.memory.embedding.vectors import Vectors
from molecule_grpc.memory.search import paging
from molecule_grpc.memory.search.alike import Group, grouped
from molecule_grpc.memory.search.confidence import confidence
from molecule_grpc.memory.search.explaining import explanation
from molecule_grpc.memory.search.finding import (
    HYBRID,
    LEXICAL,
    RECENT,
    SEMANTIC,
    Hits,
    find,
    place_of,
)
from molecule_grpc.memory.search.finding import Search as Asked
from molecule_grpc.memory.search.paging import Resumed
from molecule_grpc.memory.search.plan import Meaning, Ranked
from molecule_grpc.memory.search.store.exclusions import exclusions
from molecule_grpc.memory.search.store.hit_rows import HitRow, hit_rows
from molecule_grpc.memory.search.store.snapshot import Snapshot, snapshot
from molecule_grpc.memory.search_values import Explained, Found, Hit, Query
from molecule_grpc.memory.values import Access

Recalled = Callable[[UUID, Sequence[UUID]], None]
"""Told which memories of an organisation were shown. Must be quick."""

DEFAULT_LIMIT: Final = 20
MOST_HITS: Final = 100
# Hits that are found beyond a page, in case some say the same.
_SPARE: Final = 20
# No score is higher, nor lower.
_MOST_SCORE: Final = 100.0
_LEAST_HALF_LIFE_DAYS: Final = 0.001
_RANKS_TOLD: Final = 1000
_MILLION: Final = 1_000_000
_NO_EMBEDDER: Final = "there is no embedder: searched by words alone"
_NO_EXTENSION: Final = (
    "Postgres has no place for vectors of this model, yet or without the extension `vector`:"
    " searched by words alone"
)
_NO_MODEL: Final = (
    "the embedder has no model yet, or its package is not installed (`molecule-grpc doctor` says):"
    " searched by words alone"
)
_NOT_NOW: Final = "the embedder does not answer: searched by words alone"


class Search:
    """Searches in the namespaces that a workspace can read.

    Args:
        recalled: told of what was shown; None where nobody counts.
        exact_rows: see `MEMORY_EXACT_ROWS`.
    """

    def __init__(
        self,
        pool: Pool,
        page_tokens: PageTokens,
        embedder: Embedder,
        vectors: Vectors,
        *,
        exact_rows: int,
        recalled: Recalled | None = None,
    ) -> None:
        self._pool = pool
        self._tokens = page_tokens
        self._embedder = embedder
        self._vectors = vectors
        self._exact_rows = exact_rows
        self._recalled = recalled

    async def search(self, access: Access, query: Query) -> Found:
        """A page of hits. Nothing of a namespace that the reader cannot read changes any number.

        Raises:
            Invalid: `page_token` is none of ours, or of another search.
            Unavailable: the database does not answer, or the embedder of the first page has gone.
        """
        query = _bounded(query)
        limit = min(max(query.limit or DEFAULT_LIMIT, 1), MOST_HITS)
        asked, degraded = await self._asked(access, query, limit + 1 + min(limit, _SPARE))
        if not asked.namespaces:
            return _nothing(asked.mode, limit, degraded)
        async with self._snapshot(asked) as now:
            hits = await find(now, asked)
            rows = await hit_rows(
                now.connection,
                now.scope,
                asked.query,
                asked.words,
                hits.ids,
            )
        shown, taken = await _groups(hits, rows, limit)
        if self._recalled is not None and shown:
            self._recalled(access.organization_id, [group.shown for group in shown])
        return Found(
            hits=_hits(access, asked, hits, rows, shown),
            mode_used=asked.mode,
            searched_namespaces=asked.namespaces,
            embed_pending=now.pending,
            confidence=confidence(hits.ranked, asked.meaning.model if asked.meaning else None),
            next_page_token=self._next(access, asked, query, hits, taken),
            limit=limit,
            degraded=[*degraded, *asked.limits],
        )

    async def explain(self, access: Access, memory_id: UUID, query: Query) -> Explained:
        """Why a memory is, or is not, among the hits of a search.

        Raises:
            NotFound: MEMORY_NOT_FOUND: the reader can read no such memory.
            Unavailable: the database does not answer.
        """
        query = replace(_bounded(query), page_token="")
        asked, _ = await self._asked(access, query, _RANKS_TOLD)
        async with self._snapshot(asked) as now:
            excluded = await exclusions(
                now.connection, access, asked.namespaces, asked.query, memory_id
            )
            if excluded is None:
                raise NotFound("there is no such memory", reason="MEMORY_NOT_FOUND")
            if excluded:
                return Explained(False, 0, None, None, excluded)
            hits = await find(now, asked)
            hit = next((each for each in hits.ranked if each.id == memory_id), None)
            if hit is None and asked.mode in {HYBRID, SEMANTIC, LEXICAL}:
                hit = await place_of(now, asked, memory_id)
            rows = await hit_rows(
                now.connection,
                now.scope,
                asked.query,
                asked.words,
                [memory_id],
            )
        row, matched = rows[memory_id]
        rank = hits.ids.index(memory_id) + 1 if memory_id in hits.ids else 0
        why = explanation(access, row, hit, matched, now.now)
        if hit is None:
            # In a list without scores; or reached by no leg.
            there = asked.mode == RECENT or rank > 0
            return Explained(there, rank, None, why if there else None, [] if there else ["words"])
        enough = hit.score >= round(asked.query.min_score * _MILLION)
        return Explained(enough, rank, hit.score / _MILLION, why, [] if enough else ["min_score"])

    def _snapshot(self, asked: Asked) -> AbstractAsyncContextManager[Snapshot]:
        return snapshot(self._pool, asked.organization_id, asked.namespaces, asked.query.text)

    async def _asked(self, access: Access, query: Query, limit: int) -> tuple[Asked, list[str]]:
        """The search to run, and the reasons why meaning is not used. Holds no connection."""
        resumed = paging.read(self._tokens, access.workspace_id, query)
        blank = not query.text.strip()
        mode = resumed.mode if resumed else RECENT if blank else query.mode or HYBRID
        meaning, degraded = None, []
        namespaces = access.chosen(query.namespaces)
        if mode in {HYBRID, SEMANTIC} and namespaces:
            meaning, why_not = await self._meaning(query.text)
            if why_not:
                degraded.append(why_not)
            if meaning is None:
                if resumed:
                    raise Unavailable("the list cannot go on without the embedder, try again")
                mode = LEXICAL
        return (
            Asked(
                organization_id=access.organization_id,
                namespaces=namespaces,
                query=query,
                mode=mode,
                meaning=meaning,
                resumed=resumed,
                exact_rows=self._exact_rows,
                limit=limit,
            ),
            degraded,
        )

    async def _meaning(self, text: str) -> tuple[Meaning | None, str]:
        if not self._embedder.active:
            return None, _NO_EMBEDDER
        model = self._embedder.model
        if model is None:
            return None, _NO_MODEL
        schema = await self._vectors.find(model)
        if schema is None:
            return None, _NO_EXTENSION
        vector = await self._embedder.query(text)
        if vector is None or self._embedder.model != model:
            return None, _NOT_NOW
        return Meaning(vector, model, schema, earlier=await self._by_earlier(text, model)), ""

    async def _by_earlier(self, text: str, model: EmbeddingModel) -> tuple[str, Vector] | None:
        """The query by the model before this one, while that one's vectors are being replaced."""
        earlier = await self._vectors.earlier(model)
        vector = await self._embedder.query(text, earlier) if earlier is not None else None
        return None if earlier is None or vector is None else (earlier.id, vector)

    def _next(self, access: Access, asked: Asked, query: Query, hits: Hits, taken: int) -> str:
        """The token of the next page; empty where the hits end with this one."""
        if taken == 0 or (taken >= len(hits.ids) and len(hits.ids) < asked.limit):
            return ""
        assert asked.now is not None
        score, last = 0, None
        if hits.ranked:
            place = hits.ranked[taken - 1].place
            score, last = place.score, (place.created_at, place.id)
        else:
            row = hits.listed[taken - 1]
            score, last = int(row.pinned), (row.created_at, row.id)
        resumed = Resumed(asked.mode, asked.frequencies, asked.now, score, *last)
        return paging.write(self._tokens, access.workspace_id, query, resumed)


def _bounded(query: Query) -> Query:
    """The query with numbers that Postgres can count with, and without the byte that it refuses."""
    least = query.min_score if math.isfinite(query.min_score) else 0.0
    half_life = query.half_life_days if math.isfinite(query.half_life_days) else 0.0
    return replace(
        query,
        text=query.text.replace("\0", ""),
        tags=tuple(tag.replace("\0", "") for tag in query.tags),
        entities=tuple(entity.replace("\0", "") for entity in query.entities),
        kinds=tuple(kind.replace("\0", "") for kind in query.kinds),
        label=query.label.replace("\0", ""),
        delegation_id=query.delegation_id.replace("\0", ""),
        min_score=min(max(least, -_MOST_SCORE), _MOST_SCORE),
        half_life_days=max(half_life, _LEAST_HALF_LIFE_DAYS) if half_life > 0 else 0.0,
    )


def _nothing(mode: str, limit: int, degraded: list[str]) -> Found:
    """The answer to a reader who can read none of the namespaces."""
    return Found(
        hits=[],
        mode_used=mode,
        searched_namespaces=[],
        embed_pending=0,
        confidence="none",
        next_page_token="",
        limit=limit,
        degraded=degraded,
    )


async def _groups(
    hits: Hits, rows: dict[UUID, HitRow], limit: int
) -> tuple[list[Group[UUID]], int]:
    """The hits to be shown, and how many are taken with them."""
    # Rows that were too much for a page begin the next one.
    there = []
    for id_ in hits.ids:
        if id_ not in rows:
            break
        there.append(id_)
    if not hits.ranked:
        shown = there[:limit]
        return [Group(id_, []) for id_ in shown], len(shown)
    return await grouped(there, lambda id_: rows[id_].row.content, limit)


def _hits(
    access: Access,
    asked: Asked,
    hits: Hits,
    rows: dict[UUID, HitRow],
    shown: Sequence[Group[UUID]],
) -> list[Hit]:
    scores: dict[UUID, Ranked] = {hit.id: hit for hit in hits.ranked}
    assert asked.now is not None
    found = []
    for group in shown:
        row, matched = rows[group.shown]
        hit = scores.get(group.shown)
        why = None
        if asked.query.explain:
            why = explanation(access, row, hit, matched, asked.now)
        found.append(
            Hit(
                row,
                None if hit is None else hit.score / _MILLION,
                why,
                tuple(group.others),
                None if hit is None else hit.cosine,
            )
        )
    return found
