"""Reading memories by id, their chains, and the report on a namespace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.memory import refusals
from molecule_grpc.memory.namespaces import Namespaces
from molecule_grpc.memory.store import hygiene, reads
from molecule_grpc.memory.values import Finding, Hygiene, MemoryRow, VersionRow

_REMEDIES = {
    "exact_duplicate": "ForgetMemory for all but the first",
    "near_duplicate": "ConsolidateMemories with one text, or ForgetMemory for all but the first",
    "never_recalled": "ForgetMemory, or UpdateMemory with other words",
    "expired_validity": "SupersedeMemory with what holds now, or ForgetMemory",
    "dead_reference": "ForgetMemory, or SupersedeMemory with what holds now",
    "longest": "SupersedeMemory with a shorter text, the rest as memories of their own",
    "noisiest_author": "ConsolidateMemories; an operator can hide the author's texts",
    "redacted": "UpdateMemory with a text that needs no secret",
}


class Reads:
    """Reads what a workspace can read now. Texts are as stored, see `rendering`.

    Args:
        recalled: told which memories somebody has read. Must be quick.
    """

    def __init__(
        self, pool: Pool, namespaces: Namespaces, recalled: Callable[[UUID, Sequence[UUID]], None]
    ) -> None:
        self._pool = pool
        self._namespaces = namespaces
        self._recalled = recalled

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
            totals = await hygiene.totals(self._pool, access.organization_id, name)
            found = await hygiene.findings(self._pool, access.organization_id, name)
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


def _remedy(found: hygiene.Found) -> str:
    return _REMEDIES[found.problem]
