"""Page tokens of lists of hits: they carry the inputs of scores, so that all pages score alike."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.memory.search.plan import Frequencies, Place
from molecule_grpc.memory.search.store.listing import Listed
from molecule_grpc.memory.search_values import Query


class Resumed(NamedTuple):
    """A list on its next page.

    Args:
        mode: how the first page was searched; the others are searched the same way.
        now: the time of the first page.
        score: of the last hit, in millionths; of a list without scores 1 for a pinned row, else 0.
    """

    mode: str
    frequencies: Frequencies | None
    now: datetime
    score: int
    created_at: datetime
    id: UUID

    @property
    def place(self) -> Place:
        """Behind which hit of a ranking the page begins."""
        return Place(self.score, self.created_at, self.id)

    @property
    def listed(self) -> Listed:
        """Behind which row of a list without scores the page begins."""
        return Listed(bool(self.score), self.created_at, self.id)


def write(tokens: PageTokens, reader: UUID, query: Query, resumed: Resumed) -> str:
    """A page token that only this reader can use, and only with this query."""
    return tokens.make(
        _listing(reader, query),
        resumed.mode,
        _spoken(resumed.frequencies),
        resumed.now,
        resumed.score,
        resumed.created_at,
        resumed.id,
    )


def read(tokens: PageTokens, reader: UUID, query: Query) -> Resumed | None:
    """The place behind the query's token; None for the first page.

    Raises:
        Invalid: the token is of another query or reader, or none of ours.
    """
    parts = tokens.read(
        _listing(reader, query), query.page_token, str, str, datetime, int, datetime, UUID
    )
    if parts is None:
        return None
    mode, frequencies, now, score, created_at, id_ = parts
    return Resumed(  # The kinds were read as asked for.
        str(mode),
        _frequencies(str(frequencies)),
        now,  # type: ignore[arg-type]
        score,  # type: ignore[arg-type]
        created_at,  # type: ignore[arg-type]
        id_,  # type: ignore[arg-type]
    )


def _listing(reader: UUID, query: Query) -> str:
    """Names the list: pages may differ in their length, and in whether they explain."""
    same = replace(query, page_token="", limit=0, explain=False)
    return f"memories:{reader}:{hashlib.sha256(repr(same).encode()).hexdigest()}"


def _spoken(frequencies: Frequencies | None) -> str:
    if frequencies is None:
        return ""
    numbers = [frequencies.rows, round(frequencies.length * 1000), *frequencies.of_words]
    return ",".join(f"{number:x}" for number in numbers)


def _frequencies(spoken: str) -> Frequencies | None:
    if not spoken:
        return None
    rows, length, *of_words = (int(number, 16) for number in spoken.split(","))
    return Frequencies(rows, length / 1000, tuple(of_words))
