"""Memories that take the place of others: superseding, consolidating, and taking that back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.events.names import EventType
from molecule_grpc.events.store import Event, keep
from molecule_grpc.kernel.errors import AlreadyExists, Invalid, Unavailable
from molecule_grpc.memory import acts, drafting, refusals
from molecule_grpc.memory.changes import Changes, writable_row
from molecule_grpc.memory.drafting import Prepared
from molecule_grpc.memory.held import Held, held
from molecule_grpc.memory.helpers import NoReader, Reader
from molecule_grpc.memory.items import item
from molecule_grpc.memory.ports import Audit
from molecule_grpc.memory.refusals import MemoryQuotas
from molecule_grpc.memory.store import chains as store
from molecule_grpc.memory.store import changes, commits
from molecule_grpc.memory.store.changes import HeldRow
from molecule_grpc.memory.store.commits import UNDECIDED, Item, Stored, Verdict
from molecule_grpc.memory.values import Committed, Consolidated, Draft

# A memory that meets others which store the same is tried so often.
_TRIES = 4


class _Raced(Exception):
    """Another transaction stored the same at the same moment; nothing was written."""


class Chains:
    """Replaces memories by others of the same namespace. Each call is one transaction.

    Args:
        audit: enters rows into records.
        changes: forgets the memory of a consolidation that is taken back.
        tell_readers: wakes the readers of the feed of events.
        reader: reads new texts; None where nobody searches by meaning.
    """

    def __init__(
        self,
        pool: Pool,
        quotas: MemoryQuotas,
        audit: Audit,
        changes: Changes,
        *,
        tell_readers: Callable[[], None],
        reader: Reader | None = None,
    ) -> None:
        self._pool = pool
        self._quotas = quotas
        self._audit = audit
        self._changes = changes
        self._tell_readers = tell_readers
        self._reader = reader or NoReader()

    async def supersede(self, author: UUID, memory_id: UUID, draft: Draft) -> Committed:
        """Store a memory in the place of another one of the same namespace.

        Where the namespace has the text already, that memory takes the place. A repeat with the
        same text returns the first result.

        Raises:
            Invalid: a field breaks its rule, or the namespace is another one; RECALLED_TEXT.
            NotFound: MEMORY_NOT_FOUND, WORKSPACE_NOT_FOUND.
            Denied: NAMESPACE_NOT_WRITABLE.
            Aborted: MEMORY_SUPERSEDED, with the id of the other replacement.
            AlreadyExists: MEMORY_ID_TAKEN.
            Exhausted: QUOTA_EXCEEDED.
        """
        prepared = await _prepared(author, draft)
        for _ in range(_TRIES):
            with contextlib.suppress(_Raced):
                return await self._supersede(author, memory_id, draft, prepared)
        raise Unavailable("others write the same, try again")

    async def _supersede(
        self, author: UUID, memory_id: UUID, draft: Draft, prepared: Prepared
    ) -> Committed:
        """One try. Raises `_Raced` where another one stored the same text meanwhile."""
        async with held(self._pool, author) as within:
            conn, organization_id = within.conn, within.access.organization_id
            twin = await store.twin(conn, organization_id, memory_id, prepared.sha256)
            row = await writable_row(within, memory_id, also=twin)
            prepared = _within(prepared, draft, row.namespace)
            if row.superseded_by is not None:
                return await self._repeated(within, row.superseded_by, prepared)
            if row.sha256 == prepared.sha256:
                return self._unchanged(row.id, prepared)
            wanted = self._item(prepared, "superseded")
            stored = await self._store(within, wanted)
            winner = stored.memory_id
            if winner is None or winner not in (wanted.memory_id, twin):
                # This transaction does not hold that memory: it may be replaced at any moment.
                raise _Raced
            await self._replace(within, [row], winner)
        self._done()
        return Committed(
            id=winner,
            namespace=prepared.namespace,
            unchanged=stored.verdict != Verdict.STORED,
            redactions=prepared.redactions,
            embed_pending=stored.embed_state == "pending",
        )

    async def consolidate(
        self, author: UUID, memory_ids: Sequence[UUID], draft: Draft, *, dry_run: bool = False
    ) -> Consolidated:
        """Replace two or more memories of a namespace by a new text: all of them, or none.

        A repeat returns the first result.

        Args:
            memory_ids: two at least.
            dry_run: only check, and say what would happen.

        Raises:
            Invalid: a field breaks its rule, or the memories are of several namespaces.
            NotFound: MEMORY_NOT_FOUND: one of them is missing.
            Denied, Aborted, AlreadyExists, Exhausted: as for `supersede`.
        """
        wanted_ids = sorted(set(memory_ids))
        if len(wanted_ids) < 2:
            raise Invalid("memory_ids must be two or more", field="memory_ids")
        prepared = (await _prepared(author, draft))._replace(keep_duplicate=True)
        async with held(self._pool, author) as within:
            rows = await self._originals(within, wanted_ids)
            prepared = _within(prepared, draft, rows[0].namespace)
            winners = {row.superseded_by for row in rows} - {None}
            if winners:
                [first, *_] = sorted(filter(None, winners))
                if len(winners) > 1 or any(row.superseded_by is None for row in rows):
                    raise refusals.superseded(first)
                repeated = await self._repeated(within, first, prepared)
                return Consolidated(None if dry_run else repeated, wanted_ids)
            if dry_run:
                return Consolidated(None, wanted_ids)
            wanted = self._item(prepared, "consolidated")
            await self._replace(within, rows, wanted.memory_id)
            stored = await self._store(within, wanted)
        self._done()
        result = Committed(
            id=wanted.memory_id,
            namespace=prepared.namespace,
            redactions=prepared.redactions,
            embed_pending=stored.embed_state == "pending",
        )
        return Consolidated(result, wanted_ids)

    async def undo(self, caller: UUID, memory_id: UUID) -> list[UUID]:
        """Let the originals of a consolidated memory hold again, and forget that one; which ones.

        Raises:
            NotFound: MEMORY_NOT_FOUND, also on a repeat, and for a memory that is no consolidation.
            Denied: NAMESPACE_NOT_WRITABLE.
            Aborted: MEMORY_SUPERSEDED.
        """
        async with held(self._pool, caller) as within:
            row = await writable_row(within, memory_id)
            conn, organization_id = within.conn, within.access.organization_id
            if row.change != "consolidated" and not await store.was_consolidated(
                conn, organization_id, row.id
            ):
                raise refusals.missing()
            if row.superseded_by is not None:
                raise refusals.superseded(row.superseded_by)
            restored = await store.restore(conn, organization_id, row.id)
            await keep(conn, [_superseded(within, each, row.namespace, None) for each in restored])
            await self._changes.forget_row(within, row)
        self._tell_readers()
        return restored

    async def _originals(self, within: Held, ids: list[UUID]) -> list[HeldRow]:
        """The memories to be consolidated, all of one namespace that the caller may write."""
        conn, access = within
        rows = await changes.hold(conn, access.organization_id, ids, access.readable)
        if len(rows) != len(ids):
            raise refusals.missing()
        namespaces = {row.namespace for row in rows}
        for name in sorted(namespaces):
            if name not in access.writable:
                raise refusals.not_writable(access.workspace_id, name)
        if len(namespaces) > 1:
            raise Invalid("the memories are of several namespaces", field="memory_ids")
        return rows

    async def _repeated(self, within: Held, winner: UUID, prepared: Prepared) -> Committed:
        """The first result, if it has the same text."""
        conn, access = within
        sha256 = await changes.digest(conn, access.organization_id, winner, access.readable)
        if sha256 != prepared.sha256:
            raise refusals.superseded(winner)
        return self._unchanged(winner, prepared)

    def _unchanged(self, memory_id: UUID, prepared: Prepared) -> Committed:
        return Committed(
            id=memory_id,
            namespace=prepared.namespace,
            unchanged=True,
            redactions=prepared.redactions,
        )

    def _item(self, prepared: Prepared, change: str) -> Item:
        made = item(prepared, embed=self._reader.active, change=change)
        return made._replace(locked=True)

    async def _store(self, within: Held, wanted: Item) -> Stored:
        """Store the replacing memory, or find a memory with the same text; raises the refusal."""
        conn = within.conn
        stored = UNDECIDED
        for _ in range(_TRIES):
            [stored] = await commits.store(conn, [wanted], self._quotas.limits)
            if stored.verdict == Verdict.LAPSED:
                await changes.drop_expired(conn, wanted.author_id, wanted.memory_id)
                await commits.free(conn, wanted)
            elif stored.verdict != Verdict.RACE:
                break
        if stored.verdict == Verdict.KNOWN:
            raise AlreadyExists("another memory has this id", reason="MEMORY_ID_TAKEN")
        if stored.verdict not in (Verdict.STORED, Verdict.SAME):
            raise refusals.refusal(wanted, stored, self._quotas)
        if stored.verdict == Verdict.STORED and acts.is_organization(wanted.namespace):
            entry = acts.written(
                wanted.author_id, wanted.memory_id, wanted.namespace, wanted.sha256
            )
            await self._audit(conn, [entry])
        return stored

    async def _replace(self, within: Held, rows: Sequence[HeldRow], winner: UUID) -> None:
        conn, access = within
        ids = [row.id for row in rows]
        done = await store.supersede(conn, access.organization_id, ids, winner)
        assert done == sorted(ids)  # the transaction holds the rows
        await keep(conn, [_superseded(within, row.id, row.namespace, winner) for row in rows])

    def _done(self) -> None:
        self._tell_readers()
        if self._reader.active:
            self._reader.notice()


async def _prepared(author: UUID, draft: Draft) -> Prepared:
    return await drafting.prepared(author, draft, datetime.now(UTC))


def _within(prepared: Prepared, draft: Draft, namespace: str) -> Prepared:
    """A prepared draft for the namespace of what it replaces."""
    if draft.namespace not in ("", namespace):
        raise Invalid(f"namespace must be {namespace}, or empty", field="memory.namespace")
    return prepared._replace(namespace=namespace)


def _superseded(within: Held, memory_id: UUID, namespace: str, winner: UUID | None) -> Event:
    access = within.access
    more = {} if winner is None else {"superseded_by": str(winner)}
    return Event.of(
        EventType.MEMORY_SUPERSEDED,
        access.organization_id,
        access.workspace_id,
        memory_id=str(memory_id),
        namespace=namespace,
        **more,
    )
