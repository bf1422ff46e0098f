"""A search of memories as values: the query, hits, and why each ranks where it does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.memory.values import MemoryRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A search.

    Args:
        text: a question, words or an identifier; empty lists pinned and then newest rows.
        namespaces: where; empty for everywhere that the reader may read.
        tags: a hit has all of these.
        entities: a hit has all of these.
        author_id: only this author's.
        as_of: answer from what was held and known then, with the rights of now.
        mode: hybrid, semantic, lexical or recent; empty for hybrid with a text, else recent.
        limit: hits of a page, 1 to 100.
        half_life_days: 0 for no influence of age.
        order: `best` or `newest`, for a query with a text.
        label: of clients that know scopes; empty for any.
        delegation_id: only what came from this delegation; empty for any.
        file_id: only what came from this uploaded file.
    """

    text: str = ""
    namespaces: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    author_id: UUID | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    as_of: datetime | None = None
    mode: str = ""
    limit: int = 20
    page_token: str = ""
    min_score: float = 0.0
    half_life_days: float = 0.0
    explain: bool = False
    label: str = ""
    delegation_id: str = ""
    file_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a memory ranks where it ranks; the proto of this name says what the fields mean."""

    semantic: float | None = None
    lexical: float | None = None
    matched_words: tuple[str, ...] = ()
    exact: bool = False
    age_seconds: float = 0.0
    recency_factor: float = 1.0
    namespace_rule: str = ""
    reason: str = ""


class Hit(NamedTuple):
    """A found memory.

    Args:
        score: None in a list without a query.
        explanation: only when asked for.
        similar_ids: further hits with nearly the same text, which are not shown.
    """

    row: MemoryRow
    score: float | None = None
    explanation: Explanation | None = None
    similar_ids: tuple[UUID, ...] = ()
    similarity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The hits of a search, and how it was searched."""

    hits: list[Hit]
    mode_used: str
    searched_namespaces: list[str]
    embed_pending: int
    confidence: str
    next_page_token: str
    limit: int
    degraded: list[str]


class Explained(NamedTuple):
    """Whether and why a memory is among the hits of a search."""

    found: bool
    rank: int
    score: float | None
    explanation: Explanation | None
    excluded_by: list[str]
