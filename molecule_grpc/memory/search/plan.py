"""Values of one search: words, frequencies, the query's vector, ranked hits and their places."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.memory.embedding.port import EmbeddingModel, Vector


class Scope(NamedTuple):
    """Whose rows a search may see.

    Args:
        namespaces: those that the reader can read and that have not expired.
        hides: an operator hides what an author of the organisation wrote.
    """

    organization_id: UUID
    namespaces: Sequence[str]
    hides: bool


class Word(NamedTuple):
    """A word of the query as the index knows it.

    Args:
        languages: of the namespaces for which the query has this word.
    """

    lexeme: str
    languages: tuple[str, ...]


class Frequencies(NamedTuple):
    """What BM25 knows of the rows that the reader can read.

    Args:
        rows: how many they are.
        length: mean words of one.
        of_words: in how many of them each word of the query occurs.
    """

    rows: int
    length: float
    of_words: tuple[int, ...]


class Meaning(NamedTuple):
    """The query's vector, and where vectors of its model are.

    Args:
        schema: of the extension.
        near: the nearest rows with their cosines, where an index was asked; None compares the query
            with all rows.
        earlier: the query by the model before this one, for rows that this one has not read yet.
    """

    vector: Vector
    model: EmbeddingModel
    schema: str
    near: Sequence[tuple[UUID, float]] | None = None
    earlier: tuple[str, Vector] | None = None


class Place(NamedTuple):
    """A row's place in the order of hits: score in millionths, then time and id, all descending."""

    score: int
    created_at: datetime
    id: UUID


class Ranked(NamedTuple):
    """A hit before its row is read.

    Args:
        score: in millionths.
        cosine: None where the meaning was not compared.
        share: of the best possible BM25; None where the row has none of the words.
        rank: its place among all hits, from 1; 0 where that was not asked.
    """

    id: UUID
    score: int
    created_at: datetime
    cosine: float | None
    share: float | None
    exact: bool
    recency: float
    rank: int = 0

    @property
    def place(self) -> Place:
        """Where the list goes on behind the hit."""
        return Place(self.score, self.created_at, self.id)
