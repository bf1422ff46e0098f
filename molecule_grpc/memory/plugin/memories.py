"""Memories that a plugin keeps, as the rest of the slice commits, changes and reads memories.

Rights, redaction, escaping and audit are as for the built-in store, and happen before the plugin is
asked. What the contract has nothing for is refused by name.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import AlreadyExists, MoleculeError
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.memory import acts, drafting
from molecule_grpc.memory.contract.errors import ErrorCode, StoreError
from molecule_grpc.memory.contract.namespaces import NamespacePut
from molecule_grpc.memory.contract.objects import Capability, MemoryWrite, Written
from molecule_grpc.memory.drafting import Prepared
from molecule_grpc.memory.embedding.port import Embedder
from molecule_grpc.memory.namespaces import Namespaces, kind_of
from molecule_grpc.memory.plugin import refusals
from molecule_grpc.memory.plugin.client import PluginClient
from molecule_grpc.memory.plugin.missing import NotInPlugins
from molecule_grpc.memory.plugin.rows import write_of
from molecule_grpc.memory.plugin.searching import PluginSearch
from molecule_grpc.memory.plugin.wire_names import WireNames
from molecule_grpc.memory.ports import Audit, AuditEntry
from molecule_grpc.memory.rates import CommitRate
from molecule_grpc.memory.refusals import missing, not_writable
from molecule_grpc.memory.search_values import Found, Query
from molecule_grpc.memory.values import Access, Committed, Draft

log = structlog.get_logger(__name__)

_AUDIT_FAILURES: Final = Counter(
    "molecule_memory_audit_failures_total",
    "Writes to memories of a plugin whose row of the record could not be written.",
)
_AT_ONCE: Final = 8
_EMBED_SECONDS: Final = 1.0
# Namespaces that are known to be there, of this worker; forgotten together beyond this number.
_MOST_KNOWN: Final = 10_000


class PluginMemories(NotInPlugins):
    """The use cases of memories over a plugin.

    Args:
        key: of the installation, for ids of organisations beside the first.
        audit: enters rows into records.
        rate: bounds how often one author writes.
    """

    def __init__(
        self,
        pool: Pool,
        client: PluginClient,
        *,
        key: bytes,
        audit: Audit,
        rate: CommitRate,
        embedder: Embedder,
    ) -> None:
        self._pool = pool
        self._client = client
        self._key = key
        self._namespaces = Namespaces(pool)
        self._audit = audit
        self._rate = rate
        self._embedder = embedder
        self._search = PluginSearch(pool, client, self._names, embedder)
        self._known: set[str] = set()

    async def commit(
        self,
        author: UUID,
        draft: Draft,
        *,
        operator: bool = False,
        overwrite: bool = True,  # noqa: ARG002  (the contract always does)
    ) -> Committed:
        """Store a memory.

        Args:
            operator: the platform itself writes: no rate bounds it.
            overwrite: has no effect: a plugin overwrites the memory that has the draft's id.

        Raises:
            Invalid: a field breaks its rule; RECALLED_TEXT; the plugin refused it.
            NotFound: WORKSPACE_NOT_FOUND.
            Denied: NAMESPACE_NOT_WRITABLE.
            AlreadyExists: MEMORY_ID_TAKEN.
            Exhausted: QUOTA_EXCEEDED.
            Unavailable: MEMORY_PLUGIN_UNAVAILABLE.
        """
        prepared = await drafting.prepared(author, draft, datetime.now(UTC))
        if not operator:
            self._rate.charge(author, 1)
        return await self._committed(await self._namespaces.access(author), prepared)

    async def commit_batch(
        self, author: UUID, drafts: Sequence[Draft], *, operator: bool = False
    ) -> list[Committed | MoleculeError]:
        """Store memories, each on its own, eight at once; what became of each."""
        if not operator:
            self._rate.charge(author, len(drafts))
        access, now = await self._namespaces.access(author), datetime.now(UTC)
        turns = asyncio.Semaphore(_AT_ONCE)

        async def outcome(draft: Draft) -> Committed | MoleculeError:
            try:
                async with turns:
                    return await self._committed(
                        access, await drafting.prepared(author, draft, now)
                    )
            except MoleculeError as error:
                return error

        return await asyncio.gather(*map(outcome, drafts))

    async def forget(
        self, caller: UUID, memory_id: UUID, namespace: str = "", *, own: bool = False
    ) -> int:
        """Remove a memory from the first writable namespace that has it.

        Args:
            namespace: only from this one; empty for any.
            own: only what the caller wrote, as far as the plugin tells authors.

        Raises:
            NotFound: MEMORY_NOT_FOUND, WORKSPACE_NOT_FOUND.
            Denied: NAMESPACE_NOT_WRITABLE.
            Unavailable: MEMORY_PLUGIN_UNAVAILABLE.
        """
        access = await self._namespaces.access(caller)
        if namespace:
            _require_writable(access, namespace)
        for each in [namespace] if namespace else access.writable:
            row = await self._search.find(access, each, memory_id)
            foreign = row is None or row.author_id != caller
            if own and foreign and each != f"workspace:{caller}":
                continue
            if await self._forgotten(access, each, memory_id):
                digest = hashlib.sha256(row.content.encode()).digest() if row else b""
                await self._record(acts.forgotten(caller, memory_id, each, digest))
                return 1
        raise missing()

    async def search(self, access: Access, query: Query) -> Found:
        """Search; see `PluginSearch.search`."""
        return await self._search.search(access, query)

    def _names(self, access: Access) -> WireNames:
        return WireNames(self._key, access.organization_id)

    async def _committed(self, access: Access, prepared: Prepared) -> Committed:
        _require_writable(access, prepared.namespace)
        names = self._names(access)
        wanted = prepared.id or new_id()
        write = write_of(prepared, wanted, names, await self._vector(prepared.content))
        try:
            written = await self._written(prepared.namespace, names, write)
        except StoreError as error:
            if error.code is ErrorCode.FORBIDDEN:
                raise AlreadyExists(
                    "a memory of another namespace has this id", reason="MEMORY_ID_TAKEN"
                ) from error
            raise refusals.named(error, "commit") from error
        memory_id = names.known(written.id)
        if acts.is_organization(prepared.namespace):
            author = prepared.author_id
            entry = acts.written(author, memory_id, prepared.namespace, prepared.sha256)
            await self._record(entry)
        return Committed(id=memory_id, namespace=prepared.namespace, redactions=prepared.redactions)

    async def _written(self, namespace: str, names: WireNames, write: MemoryWrite) -> Written:
        """Store a memory, and its namespace first where it may be missing."""
        wire = names.namespace(namespace)
        if wire not in self._known:
            await self._put(wire, kind_of(namespace))
        try:
            return await self._client.commit(wire, write)
        except StoreError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
        await self._put(wire, kind_of(namespace))
        return await self._client.commit(wire, write)

    async def _put(self, wire: str, kind: str) -> None:
        await self._client.put_namespace(wire, NamespacePut(kind=kind))
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(wire)

    async def _vector(self, content: str) -> list[float] | None:
        """The vector of a text, where the plugin takes one and there is one in time."""
        if not (self._embedder.active and self._client.supports(Capability.EMBEDDING)):
            return None
        found = await self._embedder.passages([content], seconds=_EMBED_SECONDS)
        if not found or not found[0]:
            return None
        return list(found[0][0])

    async def _forgotten(self, access: Access, namespace: str, memory_id: UUID) -> bool:
        names = self._names(access)
        try:
            await self._client.forget(names.id(memory_id), names.namespace(namespace))
        except StoreError as error:
            if error.code in (ErrorCode.NOT_FOUND, ErrorCode.FORBIDDEN):
                return False
            if error.code is ErrorCode.BAD_REQUEST and not error.counts:
                return False  # The id is none of this plugin's.
            raise refusals.named(error, "forget") from error
        return True

    async def _record(self, entry: AuditEntry) -> None:
        """Enter what was done. The plugin has done it, so a failure is counted and logged."""
        try:
            with database_errors():
                async with self._pool.acquire() as conn, conn.transaction():
                    await self._audit(conn, [entry])
        except Exception:
            _AUDIT_FAILURES.inc()
            log.exception("a memory's row of the record was not written", kind=entry.activity_type)


def _require_writable(access: Access, namespace: str) -> None:
    found = access.of(namespace)
    if found is None or not found.writable:
        raise not_writable(access.workspace_id, namespace)
