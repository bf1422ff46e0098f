"""Changing memories in place, and forgetting them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.events.names import EventType
from molecule_grpc.events.store import Event, keep
from molecule_grpc.kernel.errors import Exhausted, Invalid
from molecule_grpc.memory import acts, drafting, languages, refusals
from molecule_grpc.memory.drafting import Text
from molecule_grpc.memory.held import Held, held
from molecule_grpc.memory.helpers import NoReader, Reader
from molecule_grpc.memory.ports import Audit
from molecule_grpc.memory.rates import CommitRate
from molecule_grpc.memory.refusals import MemoryQuotas
from molecule_grpc.memory.store import changes as store
from molecule_grpc.memory.store import usage
from molecule_grpc.memory.store.changes import HeldRow, NewFields, NewText
from molecule_grpc.memory.values import Change, Updated

# Each text that an update replaced is kept.
MAX_VERSIONS: Final = 1_000


class _Wanted(NamedTuple):
    """A change without secrets and headers; None leaves a field as it is."""

    text: Text | None
    kind: str | None
    tags: list[str] | None
    entities: list[str] | None
    label: str | None
    pinned: bool | None
    expires_at: datetime | None
    valid_to: datetime | None
    source: str | None
    valid_from: datetime | None
    delegation_id: str | None
    file_id: UUID | None
    metadata: str | None
    redactions: dict[str, int]
    cleared: frozenset[str]


class Changes:
    """Updates and forgets memories that the caller may write.

    Args:
        audit: enters rows into records.
        rate: bounds how often one workspace writes.
        tell_readers: wakes the readers of the feed of events.
        reader: reads new texts; None where nobody searches by meaning.
    """

    def __init__(
        self,
        pool: Pool,
        quotas: MemoryQuotas,
        audit: Audit,
        *,
        rate: CommitRate,
        tell_readers: Callable[[], None],
        reader: Reader | None = None,
    ) -> None:
        self._pool = pool
        self._quotas = quotas
        self._audit = audit
        self._rate = rate
        self._tell_readers = tell_readers
        self._reader = reader or NoReader()

    async def update(
        self, caller: UUID, memory_id: UUID, change: Change, *, own: bool = False
    ) -> Updated:
        """Change a memory; its id and creation time stay, its earlier text goes to the history.

        Without a change nothing is written.

        Args:
            own: only what the caller wrote; anything else is missing.

        Raises:
            Invalid: a field breaks its rule, or nothing is given; RECALLED_TEXT.
            NotFound: MEMORY_NOT_FOUND, WORKSPACE_NOT_FOUND.
            Denied: NAMESPACE_NOT_WRITABLE.
            Aborted: MEMORY_SUPERSEDED; MEMORY_CHANGED: there is something to change, and the memory
                has another version than `if_version`.
            Exhausted: QUOTA_EXCEEDED.
        """
        self._rate.charge(caller, 1)
        wanted = await _wanted(change, datetime.now(UTC))
        async with held(self._pool, caller) as within:
            row = await writable_row(within, memory_id, own=own)
            if row.superseded_by is not None:
                raise refusals.superseded(row.superseded_by)
            updated = await self._update(within, row, wanted, change.if_version)
        if updated.changed:
            self._tell_readers()
            if wanted.text is not None and self._reader.active:
                self._reader.notice()
        return updated

    async def forget(
        self, caller: UUID, memory_id: UUID, namespace: str = "", *, own: bool = False
    ) -> int:
        """Remove a memory for good; how many rows are gone: text, earlier texts and vectors.

        Args:
            namespace: only if the memory is of this one; empty for any.
            own: only what the caller wrote; anything else is missing.

        Raises:
            NotFound: MEMORY_NOT_FOUND, also on a repeat; WORKSPACE_NOT_FOUND.
            Denied: NAMESPACE_NOT_WRITABLE.
        """
        async with held(self._pool, caller) as within:
            row = await writable_row(within, memory_id, own=own, namespace=namespace)
            removed = await self.forget_row(within, row)
        self._tell_readers()
        return removed

    async def forget_row(self, within: Held, row: HeldRow) -> int:
        """Remove a memory that the transaction holds; how many rows are gone."""
        conn, access = within
        removed = await store.forget(conn, access.organization_id, row.id)
        await keep(conn, [_event(EventType.MEMORY_FORGOTTEN, within, row)])
        caller = access.workspace_id
        await self._audit(conn, [acts.forgotten(caller, row.id, row.namespace, row.sha256)])
        return removed

    async def set_language(self, caller: UUID, namespace: str, language: str) -> int:
        """Set the language of a namespace, see `languages.set_language`."""
        return await languages.set_language(self._pool, caller, namespace, language)

    async def _update(
        self, within: Held, row: HeldRow, wanted: _Wanted, if_version: int | None
    ) -> Updated:
        conn, access = within
        fields = _new_fields(row, wanted)
        text = wanted.text
        if text is not None and text.sha256 == row.sha256:
            text = None
        if text is None and fields == _fields(row):
            return Updated(
                row.id, row.namespace, row.label, row.version, changed=False, redactions={}
            )
        if if_version not in (None, row.version):
            raise refusals.changed(row.version)
        if text is not None:
            await self._set_text(within, row, text)
        if fields != _fields(row):
            steps = int(text is None)
            await store.set_fields(conn, access.organization_id, row.id, fields, steps=steps)
        version = row.version + 1
        await keep(conn, [_event(EventType.MEMORY_UPDATED, within, row)])
        return Updated(
            row.id, row.namespace, fields.label, version, changed=True, redactions=wanted.redactions
        )

    async def _set_text(self, within: Held, row: HeldRow, text: Text) -> None:
        conn, access = within
        if row.version >= MAX_VERSIONS:
            raise Exhausted(
                f"the memory has {MAX_VERSIONS} texts: supersede it",
                reason="QUOTA_EXCEEDED",
                metadata={"quota": "texts of a memory", "limit": str(MAX_VERSIONS)},
            )
        await self._require_room(conn, access.organization_id, row.namespace, text)
        new = NewText(
            access.workspace_id,
            text.content,
            text.sha256,
            sum(text.redactions.values()),
            "pending" if self._reader.active else "none",
        )
        await store.set_text(conn, access.organization_id, row.id, new)
        if acts.is_organization(row.namespace):
            entry = acts.edited(access.workspace_id, row.id, row.namespace, text.sha256)
            await self._audit(conn, [entry])

    async def _require_room(
        self, conn: Connection, organization_id: UUID, namespace: str, text: Text
    ) -> None:
        more = len(text.content.encode())
        place = await usage.of_namespace(conn, organization_id, namespace)
        if self._quotas.namespace_bytes.exceeded(place.bytes, more):
            raise self._quotas.namespace_bytes.refusal(namespace)
        whole = await usage.of_organization(conn, organization_id)
        if self._quotas.organization_bytes.exceeded(whole.bytes, more):
            raise self._quotas.organization_bytes.refusal(organization_id)


async def writable_row(
    within: Held,
    memory_id: UUID,
    *,
    own: bool = False,
    namespace: str = "",
    also: UUID | None = None,
) -> HeldRow:
    """Lock a memory that the caller may write.

    Args:
        own: only what the caller wrote.
        namespace: only of this one; empty for any.
        also: another memory to lock, in the order of ids.

    Raises:
        NotFound: MEMORY_NOT_FOUND.
        Denied: NAMESPACE_NOT_WRITABLE: the caller can only read it.
    """
    conn, access = within
    ids = [memory_id] if also is None else [memory_id, also]
    rows = await store.hold(conn, access.organization_id, ids, access.readable)
    row = next((each for each in rows if each.id == memory_id), None)
    if row is None or (namespace and row.namespace != namespace):
        raise refusals.missing()
    writable = row.namespace in access.writable
    if own and not (writable and row.author_id == access.workspace_id):
        raise refusals.missing()
    if not writable:
        raise refusals.not_writable(access.workspace_id, row.namespace)
    return row


def _event(kind: EventType, within: Held, row: HeldRow) -> Event:
    access = within.access
    return Event.of(
        kind,
        access.organization_id,
        access.workspace_id,
        memory_id=str(row.id),
        namespace=row.namespace,
    )


async def _wanted(change: Change, now: datetime) -> _Wanted:
    if not change.cleared and all(getattr(change, name) is None for name in _CHANGEABLE):
        raise Invalid("nothing to change is given")
    drafting.require_expiry(change.expires_at, now)
    text = None if change.content is None else await drafting.text_in_slices(change.content)
    found = Counter(text.redactions if text is not None else {})
    tags, entities = change.tags, change.entities
    return _Wanted(
        text=text,
        kind=_given(change.kind, drafting.KINDS, "kind"),
        tags=None if tags is None else drafting.labels(tags, "tags", drafting.MAX_TAG_BYTES, found),
        entities=None
        if entities is None
        else drafting.labels(entities, "entities", drafting.MAX_ENTITY_BYTES, found),
        label=None if change.label is None else drafting.label(change.label, found),
        pinned=change.pinned,
        expires_at=change.expires_at,
        valid_to=change.valid_to,
        source=_given(change.source, drafting.SOURCES, "source"),
        valid_from=change.valid_from,
        delegation_id=drafting.reference(change.delegation_id, found),
        file_id=change.file_id,
        metadata=drafting.metadata(change.metadata, found),
        redactions=dict(found),
        cleared=change.cleared,
    )


def _given(name: str | None, allowed: Sequence[str], field: str) -> str | None:
    return None if name is None else drafting.one_of(name, allowed, field)


_CHANGEABLE = ("content", *NewFields._fields)


def _fields(row: HeldRow) -> NewFields:
    return NewFields(*(getattr(row, name) for name in NewFields._fields))


def _new_fields(row: HeldRow, wanted: _Wanted) -> NewFields:
    given = {
        name: getattr(wanted, name)
        for name in NewFields._fields
        if getattr(wanted, name) is not None
    }
    without: dict[str, Any] = {"expires_at": None, "valid_to": None, "valid_from": row.created_at}
    cleared = {name: without[name] for name in wanted.cleared}
    fields = _fields(row)._replace(**given, **cleared)
    if fields.valid_to is not None and fields.valid_to <= fields.valid_from:
        raise Invalid("valid_to must be after valid_from", field="valid_to")
    return fields
