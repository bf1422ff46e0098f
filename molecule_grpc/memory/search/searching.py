"""Finding memories by word and by meaning, best first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from molecule_grpc.memory.search.store.hit_rows import HitRow, hit_rows, pending
from molecule_grpc.memory.search.store.snapshot import snapshot
from molecule_grpc.memory.values import Access, Explained, Found, Hit, Query

Recalled = Callable[[UUID, Sequence[UUID]], None]
"""Told which memories of an organisation were shown. Must be quick."""

DEFAULT_LIMIT: Final = 20
MOST_HITS: Final = 100
# Hits that are found beyond a page, in case some say the same.
_SPARE: Final = 20
_RANKS_TOLD: Final = 1000
_MILLION: Final = 1_000_000
_NO_EMBEDDER: Final = "there is no embedder: searched by words alone"
_NO_EXTENSION: Final = "Postgres has no extension `vector`: searched by words alone"
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
        limit = min(max(query.limit or DEFAULT_LIMIT, 1), MOST_HITS)
        asked, degraded = await self._asked(access, query, limit + 1 + min(limit, _SPARE))
        if not asked.namespaces:
            return _nothing(asked.mode, limit, degraded)
        async with snapshot(self._pool) as now:
            hits = await find(now, asked)
            rows = await hit_rows(
                now.connection,
                asked.organization_id,
                asked.namespaces,
                asked.query,
                asked.words,
                hits.ids,
            )
            waiting = await pending(now.connection, asked.organization_id, asked.namespaces)
        shown, taken = _groups(hits, rows, limit)
        if self._recalled is not None and shown:
            self._recalled(access.organization_id, [group.shown for group in shown])
        return Found(
            hits=_hits(access, asked, hits, rows, shown),
            mode_used=asked.mode,
            searched_namespaces=asked.namespaces,
            embed_pending=waiting,
            confidence=confidence(list(hits.ranked), asked.mode),
            next_page_token=self._next(access, asked, query, hits, taken),
            limit=limit,
            degraded=degraded,
        )

    async def explain(self, access: Access, memory_id: UUID, query: Query) -> Explained:
        """Why a memory is, or is not, among the hits of a search.

        Raises:
            NotFound: MEMORY_NOT_FOUND: the reader can read no such memory.
            Unavailable: the database does not answer.
        """
        asked, _ = await self._asked(access, replace(query, page_token=""), MOST_HITS)
        async with snapshot(self._pool) as now:
            excluded = await exclusions(
                now.connection, access, asked.namespaces, asked.query, memory_id
            )
            if excluded is None:
                raise NotFound("there is no such memory", reason="MEMORY_NOT_FOUND")
            if excluded or asked.mode == RECENT:
                return Explained(not excluded, 0, None, None, excluded)
            hit = await place_of(now, asked, memory_id)
            if hit is None:
                return Explained(False, 0, None, None, ["words"])
            rows = await hit_rows(
                now.connection,
                asked.organization_id,
                asked.namespaces,
                asked.query,
                asked.words,
                [memory_id],
            )
        row, matched = rows[memory_id]
        enough = hit.score >= round(asked.query.min_score * _MILLION)
        return Explained(
            found=enough,
            rank=hit.rank if enough and hit.rank <= _RANKS_TOLD else 0,
            score=hit.score / _MILLION,
            explanation=explanation(access, row, hit, matched, now.now),
            excluded_by=[] if enough else ["min_score"],
        )

    async def _asked(self, access: Access, query: Query, limit: int) -> tuple[Asked, list[str]]:
        """What is to be searched, and what cannot be done of it. Holds no connection."""
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
            return None, _NOT_NOW
        if not await self._vectors.enable(model):
            return None, _NO_EXTENSION
        vector = await self._embedder.query(text)
        schema = self._vectors.schema(model)
        if vector is None or schema is None or self._embedder.model != model:
            return None, _NOT_NOW
        return Meaning(vector, model, schema, earlier=await self._by_earlier(text, model)), ""

    async def _by_earlier(self, text: str, model: EmbeddingModel) -> tuple[str, Vector] | None:
        """The query by the model before this one, while that one's vectors are being replaced."""
        earlier = await self._vectors.earlier(model)
        vector = await self._embedder.query(text, earlier) if earlier is not None else None
        return None if earlier is None or vector is None else (earlier.id, vector)

    def _next(self, access: Access, asked: Asked, query: Query, hits: Hits, taken: int) -> str:
        """The token of the next page; empty where the hits end with this one."""
        if taken == 0 or taken >= len(hits.ids):
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


def _groups(hits: Hits, rows: dict[UUID, HitRow], limit: int) -> tuple[list[Group[UUID]], int]:
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
    return grouped(there, lambda id_: rows[id_].row.content, limit)


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
