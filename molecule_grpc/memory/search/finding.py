"""One search within one snapshot: which leg answers, and with which hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from molecule_grpc.memory.embedding.models import DEFAULT_WEIGHT
from molecule_grpc.memory.search.identifiers import identifier
from molecule_grpc.memory.search.paging import Resumed
from molecule_grpc.memory.search.plan import Frequencies, Meaning, Ranked, Word
from molecule_grpc.memory.search.store.listing import Listed, listing
from molecule_grpc.memory.search.store.nearest import INDEXED_DIMENSIONS, nearest
from molecule_grpc.memory.search.store.ranking import Ranking, ranked
from molecule_grpc.memory.search.store.snapshot import Snapshot
from molecule_grpc.memory.search_values import Query

HYBRID: Final = "hybrid"
SEMANTIC: Final = "semantic"
LEXICAL: Final = "lexical"
SUBSTRING: Final = "substring"
RECENT: Final = "recent"
_SUBSTRING_LIMIT: Final = "no memory has the words: looked letter by letter in the newest 20,000"
_INDEX_LIMIT: Final = "meaning was compared with the 400 nearest vectors of an index"
_EARLIER_LIMIT: Final = "texts of then that were changed since are compared by words alone"


@dataclass(slots=True, kw_only=True)
class Search:
    """What is searched, and how. `mode` may become a humbler one on the way.

    Args:
        meaning: of the query; None where it cannot be compared.
        resumed: where the page begins; None for the first.
        exact_rows: up to so many memories, the query is compared with all.
        limit: hits to find, those included that are not shown.
        limits: what the search left out, for people.
    """

    organization_id: UUID
    namespaces: list[str]
    query: Query
    mode: str
    meaning: Meaning | None
    resumed: Resumed | None
    exact_rows: int
    limit: int
    words: list[Word] = field(default_factory=list)
    frequencies: Frequencies | None = None
    now: datetime | None = None
    limits: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Hits:
    """The hits in order, of a ranking or of a list."""

    ranked: Sequence[Ranked] = ()
    listed: Sequence[Listed] = ()

    @property
    def ids(self) -> list[UUID]:
        """Theirs, in order."""
        return [hit.id for hit in self.ranked or self.listed]


async def find(snapshot: Snapshot, search: Search) -> Hits:
    """The hits of a page, down the ladder: meaning and words, words, a piece of text, newest."""
    search.now = search.resumed.now if search.resumed else snapshot.now
    if search.mode in {HYBRID, SEMANTIC, LEXICAL}:
        found = await _ranked(snapshot, search)
        if found or search.resumed or search.mode == SEMANTIC or search.query.min_score > 0:
            return Hits(ranked=found)
        # No words of the query that the index keeps, or no row that has one: look letter by letter.
        search.mode = SUBSTRING
    if search.mode == SUBSTRING:
        search.limits.append(_SUBSTRING_LIMIT)
        listed = await _listed(snapshot, search, search.query.text.strip())
        if listed or search.resumed or search.words:
            return Hits(listed=listed)
        search.mode = RECENT
        search.limits.clear()
    return Hits(listed=await _listed(snapshot, search, ""))


async def place_of(snapshot: Snapshot, search: Search, memory_id: UUID) -> Ranked | None:
    """The hit that a memory is, with its place among all; None if no leg reaches it."""
    search.now = snapshot.now
    found = await _ranked(snapshot, search, only=memory_id)
    return found[0] if found else None


async def _ranked(snapshot: Snapshot, search: Search, only: UUID | None = None) -> Sequence[Ranked]:
    query, connection = search.query, snapshot.connection
    assert search.now is not None
    known = snapshot.words
    search.words = [] if search.mode == SEMANTIC else known.words
    meaning = search.meaning
    literal = "" if search.mode == SEMANTIC else identifier(query.text)
    if meaning is not None and query.as_of is not None:
        search.limits.append(_EARLIER_LIMIT)
    if meaning is not None and known.memories > search.exact_rows:
        meaning = await _by_index(snapshot, search, meaning)
    if meaning is None and not search.words and not literal:
        return []
    resumed = search.resumed
    hits, search.frequencies = await ranked(
        connection,
        Ranking(
            scope=snapshot.scope,
            query=query,
            words=search.words,
            frequencies=resumed.frequencies if resumed else None,
            meaning=meaning,
            literal=literal,
            weight=meaning.model.weight if meaning else DEFAULT_WEIGHT,
            now=search.now,
            limit=search.limit,
            after=resumed.place if resumed else None,
            only=only,
        ),
    )
    return hits


async def _by_index(snapshot: Snapshot, search: Search, meaning: Meaning) -> Meaning:
    """The query's nearest rows by the index; without enough of them all rows are compared."""
    if meaning.model.dimensions > INDEXED_DIMENSIONS:
        return meaning
    assert search.now is not None
    near = await nearest(
        snapshot.connection,
        snapshot.scope,
        search.query,
        meaning,
        search.now,
    )
    if len(near) < search.limit:
        return meaning
    search.limits.append(_INDEX_LIMIT)
    return meaning._replace(near=near)


async def _listed(snapshot: Snapshot, search: Search, piece: str) -> list[Listed]:
    return await listing(
        snapshot.connection,
        snapshot.scope,
        search.query,
        piece=piece,
        after=search.resumed.listed if search.resumed else None,
        limit=search.limit,
    )
