"""Stores that rows of an old installation move into."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import MoleculeError, Unavailable
from molecule_grpc.memory.contract.errors import StoreError
from molecule_grpc.memory.contract.namespaces import NamespacePut
from molecule_grpc.memory.contract.objects import (
    MOST_HITS,
    Capability,
    Memory,
    MemoryWrite,
    SearchRequest,
)
from molecule_grpc.memory.legacy.placing import Placed
from molecule_grpc.memory.legacy.store import held
from molecule_grpc.memory.plugin.client import CircuitOpen, PluginClient
from molecule_grpc.memory.plugin.rows import AUTHOR
from molecule_grpc.memory.plugin.wire_names import WireNames
from molecule_grpc.memory.ports import Committing
from molecule_grpc.memory.values import Draft

_MOST_QUERY_CHARS = 1_000


class TargetError(Exception):
    """One row could not be stored or looked for; others may."""


class TargetAway(Exception):
    """The store fails, and would for every further row."""


class Holdings(Protocol):
    """The texts of one namespace in the target, each counted once."""

    async def take(self, content: str) -> bool:
        """Use up a copy of a text; False if none is left. Raises `TargetError`, `TargetAway`."""
        ...


class Target(Protocol):
    """A store."""

    async def put(self, placed: Placed) -> None:
        """Store a row under its own id. Raises `TargetError`, `TargetAway`."""
        ...

    def holdings(self, placed: Placed) -> Holdings:
        """What the target has of the namespace of a row."""
        ...


class BuiltInTarget:
    """The store of the platform: rows enter through the same commit as any other memory."""

    def __init__(self, pool: Pool, commits: Committing) -> None:
        self._pool = pool
        self._commits = commits

    async def put(self, placed: Placed) -> None:
        owner = placed.row.workspace_id
        moved = {"moved_from": {"table": "agent_memories", "workspace_id": str(owner)}}
        draft = Draft(
            id=placed.row.id,
            content=placed.row.content,
            namespace=placed.namespace,
            label=placed.label,
            created_at=placed.row.created_at,
            keep_duplicate=True,
            metadata=json.dumps(moved) if owner != placed.author_id else None,
        )
        try:
            await self._commits.commit(placed.author_id, draft, operator=True)
        except Unavailable as error:
            raise TargetAway(error.message) from error
        except MoleculeError as error:
            raise TargetError(error.message) from error

    def holdings(self, placed: Placed) -> Holdings:
        return _BuiltInHoldings(self._pool, placed.organization_id, placed.namespace)


class _BuiltInHoldings:
    def __init__(self, pool: Pool, organization_id: UUID, namespace: str) -> None:
        self._pool = pool
        self._place = (organization_id, namespace)
        self._found: Counter[bytes] | None = None

    async def take(self, content: str) -> bool:
        if self._found is None:
            self._found = Counter()
            after = UUID(int=0)
            while rows := await held.page(self._pool, *self._place, after):
                self._found.update(digest for _, digest in rows)
                after = rows[-1][0]
        return _taken(self._found, content)


class PluginTarget:
    """A server of the contract.

    Args:
        names: of an organisation in the plugin.
    """

    def __init__(self, client: PluginClient, names: Callable[[UUID], WireNames]) -> None:
        self._client = client
        self._names = names
        self._made: set[str] = set()

    async def put(self, placed: Placed) -> None:
        names = self._names(placed.organization_id)
        wire = names.namespace(placed.namespace)
        carried = {AUTHOR: str(placed.row.workspace_id)}
        if placed.label != "general":
            carried["label"] = placed.label
        write = MemoryWrite(
            id=names.id(placed.row.id),
            content=placed.content,
            propagation=carried,
            created_at=placed.row.created_at,
        )
        try:
            if wire not in self._made:
                await self._client.put_namespace(wire, NamespacePut(kind=placed.kind))
                self._made.add(wire)
            written = await self._client.commit(wire, write)
        except StoreError as error:
            raise _named(error) from error
        if written.id != write.id:
            raise TargetAway(
                f"the plugin stored memory {write.id} as {written.id}: it keeps no ids, so a second"
                " run would double every memory"
            )

    def holdings(self, placed: Placed) -> Holdings:
        wire = self._names(placed.organization_id).namespace(placed.namespace)
        return _PluginHoldings(self._client, wire)


class _PluginHoldings:
    """All memories of a namespace where the plugin lists them, else those that searches find."""

    def __init__(self, client: PluginClient, wire: str) -> None:
        self._client = client
        self._wire = wire
        self._seen: set[str] | None = None
        self._found: Counter[bytes] = Counter()

    async def take(self, content: str) -> bool:
        try:
            if self._seen is None:
                self._seen = set()
                if self._client.supports(Capability.LIST):
                    await self._list()
                else:
                    await self._look("")
            if _taken(self._found, content):
                return True
            if self._client.supports(Capability.LIST):
                return False
            await self._look(content[:_MOST_QUERY_CHARS])
        except StoreError as error:
            raise _named(error) from error
        return _taken(self._found, content)

    async def _list(self) -> None:
        cursor: str | None = ""
        while cursor is not None:
            page = await self._client.page(self._wire, cursor)
            self._note(page.memories)
            cursor = page.next_cursor

    async def _look(self, query: str) -> None:
        request = SearchRequest(namespaces=[self._wire], query=query, limit=MOST_HITS)
        self._note(await self._client.search(request))

    def _note(self, memories: list[Memory]) -> None:
        assert self._seen is not None
        for memory in memories:
            if memory.id not in self._seen:
                self._seen.add(memory.id)
                self._found[_digest(memory.content)] += 1


def _taken(found: Counter[bytes], content: str) -> bool:
    digest = _digest(content)
    if found[digest] == 0:
        return False
    found[digest] -= 1
    return True


def _digest(content: str) -> bytes:
    return hashlib.sha256(content.encode()).digest()


def _named(error: StoreError) -> TargetError | TargetAway:
    if isinstance(error, CircuitOpen) or error.status == 0:
        return TargetAway(error.message)
    return TargetError(error.message)
