"""What the contract of plugins has nothing for."""
# ruff: noqa: ARG002

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from molecule_grpc.memory.plugin import refusals
from molecule_grpc.memory.search_values import Explained, Query
from molecule_grpc.memory.values import (
    Access,
    Change,
    Committed,
    Consolidated,
    Draft,
    Hygiene,
    MemoryRow,
    Updated,
    VersionRow,
)


class NotInPlugins:
    """Every method raises `Unsupported` MEMORY_PLUGIN_UNSUPPORTED."""

    async def supersede(self, author: UUID, memory_id: UUID, draft: Draft) -> Committed:
        raise refusals.unsupported("superseding a memory")

    async def consolidate(
        self, author: UUID, memory_ids: Sequence[UUID], draft: Draft, *, dry_run: bool
    ) -> Consolidated:
        raise refusals.unsupported("consolidating memories")

    async def undo(self, caller: UUID, memory_id: UUID) -> list[UUID]:
        raise refusals.unsupported("undoing a consolidation")

    async def update(
        self, caller: UUID, memory_id: UUID, change: Change, *, own: bool = False
    ) -> Updated:
        raise refusals.unsupported("updating a memory")

    async def set_language(self, caller: UUID, namespace: str, language: str) -> int:
        raise refusals.unsupported("the language of a namespace")

    async def get(self, reader: UUID, memory_id: UUID) -> MemoryRow:
        raise refusals.unsupported("reading a memory by its id")

    async def history(self, reader: UUID, memory_id: UUID) -> tuple[list[VersionRow], bool]:
        raise refusals.unsupported("the history of a memory")

    async def hygiene(self, reader: UUID, namespace: str) -> Hygiene:
        raise refusals.unsupported("a report on memories")

    async def explain(self, access: Access, memory_id: UUID, query: Query) -> Explained:
        raise refusals.unsupported("explaining a search")
