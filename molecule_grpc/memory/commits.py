"""The one way in: every memory, whatever the surface, enters through `Commits`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

import structlog

from molecule_grpc.db import tree_lock
from molecule_grpc.db.group_commit import GroupCommit
from molecule_grpc.db.pool import Connection, Pool, Writer, database_errors, translate
from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.memory import acts, drafting, refusals
from molecule_grpc.memory.chains import Chains
from molecule_grpc.memory.changes import Changes
from molecule_grpc.memory.drafting import Prepared
from molecule_grpc.memory.helpers import NoReader, Reader, SimilarTexts
from molecule_grpc.memory.items import item
from molecule_grpc.memory.ports import Audit
from molecule_grpc.memory.rates import CommitRate
from molecule_grpc.memory.refusals import MemoryQuotas
from molecule_grpc.memory.store import changes as changes_store
from molecule_grpc.memory.store import commits as store
from molecule_grpc.memory.store.commits import UNDECIDED, Item, Stored, Verdict
from molecule_grpc.memory.values import Change, Committed, Consolidated, Draft, Similar

# A memory that meets others which store the same is tried so often.
_MOST_TRIES = 4
_SIMILAR_SECONDS = 0.05
# Texts of one flush: 64 of the largest are 6.4 MB.
_FLUSH_ITEMS = 64

_log = structlog.get_logger(__name__)


class Commits:
    """Stores memories. When `commit` returns, the memory is durable and everybody can read it.

    An async context manager, open while calls are served; its exit flushes what waits.

    Args:
        audit: enters rows into records.
        changes: updates a memory whose id was given.
        chains: puts memories in the place of others.
        rate: bounds how often one author writes.
        similar: looks for memories that resemble a new one; None for no hints.
        reader: reads new texts; None where nobody searches by meaning.
        tell_readers: wakes the readers of the feed of events.
    """

    def __init__(
        self,
        dsn: str,
        pool: Pool,
        quotas: MemoryQuotas,
        audit: Audit,
        changes: Changes,
        chains: Chains,
        *,
        rate: CommitRate,
        tell_readers: Callable[[], None],
        similar: SimilarTexts | None = None,
        reader: Reader | None = None,
    ) -> None:
        self._pool = pool
        self._quotas = quotas
        self._audit = audit
        self._changes = changes
        self._chains = chains
        self._rate = rate
        self._tell_readers = tell_readers
        self._similar = similar
        self._reader = reader or NoReader()
        self._writer = Writer(dsn, store.COMMIT, application_name="molecule-grpc-memory")
        self._queue: GroupCommit[Item, Stored] = GroupCommit(
            "memories", self._flush, key=_key, max_batch=_FLUSH_ITEMS
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self._writer.close)
        await self._writer.open()
        await self._queue.start()
        self._stack.push_async_callback(self._queue.stop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def commit(
        self, author: UUID, draft: Draft, *, operator: bool = False, overwrite: bool = True
    ) -> Committed:
        """Store a memory. A repeat is harmless: the same text in a namespace is stored once.

        Args:
            operator: the platform itself writes, as in an import: no rate bounds it.
            overwrite: whether a memory that has the draft's id gets the draft's text.

        Raises:
            Invalid: a field breaks its rule; RECALLED_TEXT.
            NotFound: WORKSPACE_NOT_FOUND.
            Denied: NAMESPACE_NOT_WRITABLE.
            AlreadyExists: MEMORY_ID_TAKEN.
            Aborted: MEMORY_SUPERSEDED: the memory with the given id has been replaced.
            Exhausted: QUOTA_EXCEEDED, or the queue is full.
            Unavailable: the database does not answer, or the namespace is being deleted.
        """
        prepared = await drafting.prepared(author, draft, datetime.now(UTC))
        if not operator:
            self._rate.charge(author, 1)
        return await self._committed(prepared, overwrite=overwrite)

    async def commit_batch(
        self, author: UUID, drafts: Sequence[Draft], *, operator: bool = False
    ) -> list[Committed | MoleculeError]:
        """Store memories, each on its own; what became of each, in their order.

        Args:
            drafts: at most 100; their texts at most 1 MiB in all.
            operator: as for `commit`.

        Raises:
            Exhausted: QUOTA_EXCEEDED: the author has written too many; nothing was stored.
        """
        now = datetime.now(UTC)
        if not operator:
            self._rate.charge(author, len(drafts))
        return await asyncio.gather(*(self._outcome(author, draft, now) for draft in drafts))

    async def supersede(self, author: UUID, memory_id: UUID, draft: Draft) -> Committed:
        """Store a memory in the place of another one, see `Chains.supersede`.

        Raises:
            Exhausted: QUOTA_EXCEEDED: the author writes too often; and as there.
        """
        self._rate.charge(author, 1)
        return await self._chains.supersede(author, memory_id, draft)

    async def consolidate(
        self, author: UUID, memory_ids: Sequence[UUID], draft: Draft, *, dry_run: bool = False
    ) -> Consolidated:
        """Replace memories by one, see `Chains.consolidate`.

        Raises:
            Exhausted: QUOTA_EXCEEDED: the author writes too often; and as there.
        """
        if not dry_run:
            self._rate.charge(author, 1)
        return await self._chains.consolidate(author, memory_ids, draft, dry_run=dry_run)

    async def undo(self, caller: UUID, memory_id: UUID) -> list[UUID]:
        """Take a consolidation back, see `Chains.undo`; raises as there."""
        return await self._chains.undo(caller, memory_id)

    async def _outcome(
        self, author: UUID, draft: Draft, now: datetime
    ) -> Committed | MoleculeError:
        try:
            return await self._committed(await drafting.prepared(author, draft, now))
        except MoleculeError as error:
            return error
        except Exception as error:
            if (named := translate(error)) is None:
                raise
            return named

    async def _committed(self, prepared: Prepared, *, overwrite: bool = True) -> Committed:
        wanted = item(prepared, embed=self._reader.active)
        # Beside the flush, whose disk takes about as long as the look for similar texts.
        similar = asyncio.create_task(self._like(wanted))
        try:
            stored = await self._stored(wanted)
            if stored.verdict == Verdict.KNOWN and stored.sha256 != wanted.sha256:
                if not overwrite:
                    raise refusals.other_text()
                return await self._updated(prepared, wanted.memory_id)
            if stored.verdict not in (Verdict.STORED, Verdict.SAME, Verdict.KNOWN):
                raise refusals.refusal(wanted, stored, self._quotas)
            assert stored.memory_id is not None
            fresh = stored.verdict == Verdict.STORED
            if fresh:
                self._announce()
            return Committed(
                id=stored.memory_id,
                namespace=prepared.namespace,
                unchanged=not fresh,
                similar=await similar if fresh else (),
                redactions=prepared.redactions,
                embed_pending=stored.embed_state == "pending",
            )
        finally:
            similar.cancel()

    async def _stored(self, wanted: Item) -> Stored:
        """Submit an item until something lasting has become of it."""
        stored = UNDECIDED
        for _ in range(_MOST_TRIES):
            stored = await self._queue.submit(wanted)
            if stored.verdict == Verdict.UNHELD:
                stored = await self._wait_and_store(wanted)
            if stored.verdict == Verdict.LAPSED:
                await self._free(wanted)
            elif stored.verdict != Verdict.RACE:
                break
        return stored

    async def _free(self, wanted: Item) -> None:
        with database_errors():
            await changes_store.drop_expired(self._pool, wanted.author_id, wanted.memory_id)
            await store.free(self._pool, wanted)

    async def _flush(self, batch: Sequence[Item]) -> list[Stored]:
        if not any(each.shared for each in batch):
            return await store.store(self._writer, batch, self._quotas.limits)
        async with self._writer.connection() as conn, conn.transaction():
            held = await tree_lock.try_share(conn, [each.author_id for each in batch])
            items = [each._replace(locked=each.author_id in held) for each in batch]
            return await self._store(conn, items)

    async def _wait_and_store(self, wanted: Item) -> Stored:
        """Store an item while its tree is about to change: wait for the lock."""
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                await tree_lock.share_of(conn, wanted.author_id)
                [stored] = await self._store(conn, [wanted._replace(locked=True)])
        return stored

    async def _store(self, conn: Connection, items: Sequence[Item]) -> list[Stored]:
        """Store items, and record those that a whole organisation reads."""
        stored = await store.store(conn, items, self._quotas.limits)
        entries = [
            acts.written(each.author_id, each.memory_id, each.namespace, each.sha256)
            for each, became in zip(items, stored, strict=True)
            if became.verdict == Verdict.STORED and acts.is_organization(each.namespace)
        ]
        if entries:
            await self._audit(conn, entries)
        return stored

    async def _updated(self, prepared: Prepared, memory_id: UUID) -> Committed:
        """Give the memory with the wanted id the wanted text."""
        change = Change(
            content=prepared.content,
            kind=prepared.kind,
            tags=tuple(prepared.tags),
            entities=tuple(prepared.entities),
            pinned=prepared.pinned,
            expires_at=prepared.expires_at,
            valid_to=prepared.valid_to,
            label=prepared.label,
            source=prepared.source,
            valid_from=prepared.valid_from,
            delegation_id=prepared.delegation_id,
            file_id=prepared.file_id,
            metadata=prepared.metadata,
        )
        updated = await self._changes.update(prepared.author_id, memory_id, change)
        return Committed(
            id=updated.id,
            namespace=updated.namespace,
            redactions=prepared.redactions,
            embed_pending=self._reader.active,
        )

    def _announce(self) -> None:
        """Wake whoever waits for events, and for new texts."""
        self._tell_readers()
        if self._reader.active:
            self._reader.notice()

    async def _like(self, wanted: Item) -> Sequence[Similar]:
        """Memories that resemble a new one; none where finding them takes longer than 50 ms."""
        if self._similar is None:
            return ()
        try:
            async with asyncio.timeout(_SIMILAR_SECONDS):
                return await self._similar.find_like(
                    wanted.author_id, wanted.namespace, wanted.memory_id, wanted.content
                )
        except TimeoutError:
            return ()
        except Exception:  # noqa: BLE001  (the memory is stored; a hint more or less)
            _log.exception("looking for similar memories failed")
            return ()


def _key(wanted: Item) -> object:
    """Items with one text of a namespace never share a flush: the second is told of the first."""
    return (wanted.namespace, wanted.sha256)
