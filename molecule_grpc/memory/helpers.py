"""What a search by meaning adds to writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from molecule_grpc.memory.values import Similar


class SimilarTexts(Protocol):
    """Finds stored memories that resemble another."""

    async def find(
        self, organization_id: UUID, namespace: str, memory_id: UUID, content: str
    ) -> Sequence[Similar]:
        """Up to three of the same namespace, the most alike first."""
        ...

    async def find_like(
        self, author_id: UUID, namespace: str, memory_id: UUID, content: str
    ) -> Sequence[Similar]:
        """The same for a text on its way, of a namespace of its author's organisation."""
        ...


class Reader(Protocol):
    """Reads new texts, so that they can be found by meaning."""

    @property
    def active(self) -> bool:
        """Whether there is an embedder that shall read new texts."""
        ...

    def notice(self) -> None:
        """There are new texts. Must be quick."""
        ...


class NoReader:
    """In an installation that searches by words alone."""

    active = False

    def notice(self) -> None:
        """Do nothing."""
