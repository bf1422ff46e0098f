"""Reading memories by id, their chains, and the report on a namespace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.memory import refusals
from molecule_grpc.memory.helpers import SimilarTexts
from molecule_grpc.memory.namespaces import Namespaces
from molecule_grpc.memory.store import hygiene as reports
from molecule_grpc.memory.store import reads
from molecule_grpc.memory.values import Finding, Hygiene, MemoryRow, VersionRow

# Problems whose memories are named together.
_TWINS = ("exact_duplicate", "near_duplicate")
_ALIKE_SECONDS = 1.0
_REMEDIES = {
    "exact_duplicate": "ForgetMemory for all but the first",
    "near_duplicate": "ConsolidateMemories with one text, or ForgetMemory for all but the first",
    "never_recalled": "ForgetMemory, or UpdateMemory with other words",
    "expired_validity": "SupersedeMemory with what holds now, or ForgetMemory",
    "dead_reference": "ForgetMemory, and CommitMemory with what holds now",
    "longest": "SupersedeMemory with a shorter text, the rest as memories of their own",
    "noisiest_author": "ConsolidateMemories; an operator can hide the author's texts",
    "redacted": "UpdateMemory with a text that needs no secret",
}


class Reads:
    """Reads what a workspace can read now. Texts are as stored, see `rendering`.

    Args:
        recalled: told which memories somebody has read. Must be quick.
        similar: finds memories that resemble another; None for those with the same words alone.
    """

    def __init__(
        self,
        pool: Pool,
        namespaces: Namespaces,
        recalled: Callable[[UUID, Sequence[UUID]], None],
        similar: SimilarTexts | None = None,
    ) -> None:
        self._pool = pool
        self._namespaces = namespaces
        self._recalled = recalled
        self._similar = similar

    async def get(self, reader: UUID, memory_id: UUID) -> MemoryRow:
        """A memory, a superseded one too.

        Raises:
            NotFound: MEMORY_NOT_FOUND, WORKSPACE_NOT_FOUND.
            Conflict: TREE_TOO_DEEP.
        """
        access = await self._namespaces.access(reader)
        with database_errors():
            row = await reads.get(self._pool, access.organization_id, memory_id, access.readable)
        if row is None:
            raise refusals.missing()
        self._recalled(access.organization_id, [row.id])
        return row

    async def history(self, reader: UUID, memory_id: UUID) -> tuple[list[VersionRow], bool]:
        """The texts of a memory and of its chain, oldest first; whether there are more.

        At most 1,000 texts and 3 MiB.

        Raises:
            NotFound, Conflict: as for `get`.
        """
        access = await self._namespaces.access(reader)
        with database_errors():
            texts = await reads.chain(
                self._pool, access.organization_id, memory_id, access.readable
            )
        if not texts.rows:
            raise refusals.missing()
        return texts.rows, texts.truncated

    async def hygiene(self, reader: UUID, namespace: str = "") -> Hygiene:
        """What may be mended in a namespace, among its newest 50,000 memories.

        Args:
            namespace: empty for the reader's own.

        Raises:
            NotFound: NAMESPACE_NOT_FOUND, WORKSPACE_NOT_FOUND.
            Conflict: TREE_TOO_DEEP.
        """
        access = await self._namespaces.access(reader)
        name = namespace or f"workspace:{reader}"
        if access.of(name) is None:
            raise NotFound("namespace not found", reason="NAMESPACE_NOT_FOUND")
        with database_errors():
            totals, found = await reports.look(self._pool, access.organization_id, name)
        found += await self._alike(access.organization_id, name, found)
        return Hygiene(
            namespace=name,
            memories=totals.memories,
            bytes=totals.bytes,
            redacted_share=totals.redacted_share,
            findings=[
                Finding(each.problem, each.memory_ids, each.detail, _remedy(each), each.count)
                for each in found
            ],
        )

    async def _alike(
        self, organization_id: UUID, namespace: str, known: list[reports.Found]
    ) -> list[reports.Found]:
        """Pairs that resemble one another, among the newest 20 and what else a second finds."""
        if self._similar is None:
            return []
        with database_errors():
            newest = await reports.newest(
                self._pool, organization_id, namespace, limit=reports.MAX_FINDINGS
            )
        named = {each for one in known if one.problem in _TWINS for each in one.memory_ids}
        pairs: list[reports.Found] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ALIKE_SECONDS):
                for memory_id, content in newest:
                    if memory_id in named:
                        continue
                    hints = await self._similar.find(organization_id, namespace, memory_id, content)
                    others = [each.id for each in hints if each.id not in named]
                    if others:
                        # UUIDs of version 7: the older one first.
                        twins = sorted([memory_id, *others])
                        named.update(twins)
                        pairs.append(
                            reports.Found("near_duplicate", twins, "nearly the same", len(twins))
                        )
        return pairs


def _remedy(found: reports.Found) -> str:
    return _REMEDIES[found.problem]
