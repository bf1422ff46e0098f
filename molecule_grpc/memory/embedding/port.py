"""What the rest of the slice asks of an embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

Vector = Sequence[float]


class EmbeddingModel(NamedTuple):
    """A model, as vectors are filed under it.

    Args:
        id: provider, model, revision and dimensions, such as `local/minilm-l6-v2-int8/1.0.0/384`.
        weight: what the words of a query count beside its meaning: BM25 as a share of the most that
            the query could reach is multiplied by it and added to the cosine.
        sure: the least scores of high and of medium confidence; None where nobody measured them.
    """

    id: str
    dimensions: int
    weight: float
    sure: Sequence[float] | None = None


class Embedder(Protocol):
    """Turns texts into vectors of length 1. No method raises, and none may hold a connection."""

    @property
    def active(self) -> bool:
        """Whether the installation is to have an embedder, working or not."""

    @property
    def model(self) -> EmbeddingModel | None:
        """The model; None while it is unknown, as before the embedder has first answered."""

    async def query(self, text: str, earlier: EmbeddingModel | None = None) -> Vector | None:
        """The vector of a question; None without one within `MEMORY_EMBED_QUERY_SECONDS`.

        Args:
            earlier: by a model that was the embedder's before; None for the one it has.
        """

    async def passages(
        self, texts: Sequence[str], *, seconds: float
    ) -> list[list[Vector] | None] | None:
        """The vectors of each text, one for each window of it; None when there are none in time.

        A text that the model refuses has None in the list.

        Args:
            texts: at most 64.
        """


class NoEmbedder:
    """The embedder of an installation that searches by words alone."""

    active = False
    model = None

    async def query(
        self,
        text: str,  # noqa: ARG002  (as every embedder)
        earlier: EmbeddingModel | None = None,  # noqa: ARG002
    ) -> Vector | None:
        """Nothing."""
        return None

    async def passages(
        self,
        texts: Sequence[str],  # noqa: ARG002
        *,
        seconds: float,  # noqa: ARG002
    ) -> list[list[Vector] | None] | None:
        """Nothing."""
        return None
