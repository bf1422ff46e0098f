"""Clients that know scopes, on the table of an old installation: until it is cut over."""

from __future__ import annotations

import hashlib
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import Invalid, NotFound
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.memory import acts, drafting
from molecule_grpc.memory.legacy.store import serving as store
from molecule_grpc.memory.memories import Memories
from molecule_grpc.memory.ports import Audit, AuditEntry, Changing
from molecule_grpc.memory.rendering import escape, render_text
from molecule_grpc.memory.scoped import (
    DEFAULT_LABEL,
    MOST_ROWS,
    ScopedMemories,
    ScopedMemory,
    ScopedUpdate,
    limited,
    readable,
    writable,
)
from molecule_grpc.memory.values import Access, Committed, Rule

_GLOBAL = "GLOBAL"
_KINDS = {"LOCAL": "workspace", "TEAM": "team", _GLOBAL: "org"}


class LegacyScoped(ScopedMemories):
    """The methods of `ScopedMemories` over the table `agent_memories`.

    Redaction, wrapping and the record are as for any other memory; only the table is another.

    Args:
        audit: enters rows into records.
    """

    def __init__(self, pool: Pool, memories: Memories, changes: Changing, audit: Audit) -> None:
        super().__init__(memories, changes)
        self._pool = pool
        self._audit = audit

    async def commit(
        self, author: UUID, content: str, scope: str, label: str = DEFAULT_LABEL
    ) -> Committed:
        access = await self._memories.access(author)
        namespace = writable(access, scope)
        text = await drafting.text_in_slices(content)
        row_id = new_id()
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                await store.add(conn, row_id, author, text.content, scope, label or DEFAULT_LABEL)
                if scope == _GLOBAL:
                    entry = acts.written(author, row_id, namespace, text.sha256)
                    await self._audit(conn, [entry])
        return Committed(id=row_id, namespace=namespace, redactions=text.redactions)

    async def list_rows(
        self, reader: UUID, *, text: str = "", scope: str = "", label: str = "", limit: str = ""
    ) -> list[ScopedMemory]:
        access, scope = await self._memories.access(reader), scope.upper()
        readable(access, scope)
        seen = store.Visible(own=reader) if not scope else _seen(access, scope)
        return await self._found(access, seen, text, label, limited(limit), rest=True)

    async def recall(self, reader: UUID, text: str, scope: str) -> list[ScopedMemory]:
        access = await self._memories.access(reader)
        readable(access, scope)
        if scope == "TEAM":
            seen = _seen(access, "TEAM")._replace(own=reader, own_scope="LOCAL")
        elif scope:
            seen = _seen(access, scope)
        else:
            seen = store.Visible(own=reader, anchor=_anchor(access, Rule.TEAM))
        return await self._found(access, seen, text, "", MOST_ROWS, rest=False)

    async def update(
        self, author: UUID, memory_id: UUID, *, content: str | None, label: str | None
    ) -> ScopedUpdate:
        if content is None and label is None:
            raise Invalid("content or namespace is required", field="content")
        text = None if content is None else await drafting.text_in_slices(content)
        access = await self._memories.access(author)
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                row = await store.lock(conn, memory_id, author)
                if row is None:
                    raise _not_owned()
                stored = row.content if text is None else text.content
                shown = row.label if label is None else label
                changed = (stored, shown) != (row.content, row.label)
                if changed:
                    await store.change(conn, memory_id, stored, shown)
                if text is not None and stored != row.content and row.scope == _GLOBAL:
                    place = _namespace(access, row)
                    entry = acts.edited(author, memory_id, place, text.sha256)
                    await self._audit(conn, [entry])
        return ScopedUpdate(memory_id, row.scope, escape(shown), changed)

    async def forget(self, author: UUID, memory_id: UUID) -> None:
        access = await self._memories.access(author)
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                row = await store.remove(conn, memory_id, author)
                if row is None:
                    raise _not_owned()
                await self._audit(conn, [_forgotten(author, row, _namespace(access, row))])

    async def _found(
        self,
        access: Access,
        seen: store.Visible,
        text: str,
        label: str,
        limit: int,
        *,
        rest: bool,
    ) -> list[ScopedMemory]:
        with database_errors():
            rows = await store.find(
                self._pool,
                access.organization_id,
                seen,
                text=text.strip(),
                label=label,
                limit=limit,
            )
        return [
            ScopedMemory(
                row.id,
                row.workspace_id,
                render_text(
                    access.workspace_id,
                    row.id,
                    _namespace(access, row),
                    row.workspace_id,
                    row.content,
                    rest=rest,
                ),
                row.scope,
                escape(row.label),
                row.created_at,
                None,
            )
            for row in rows
        ]


def _seen(access: Access, scope: str) -> store.Visible:
    if scope == "LOCAL":
        return store.Visible(own=access.workspace_id, own_scope="LOCAL")
    if scope == "TEAM":
        return store.Visible(anchor=_anchor(access, Rule.TEAM))
    return store.Visible(root=_anchor(access, Rule.ORG))


def _anchor(access: Access, rule: Rule) -> UUID | None:
    """The workspace that a namespace hangs on."""
    return next(
        (UUID(each.name.partition(":")[2]) for each in access.namespaces if each.rule is rule),
        None,
    )


def _namespace(access: Access, row: store.Row) -> str:
    """What the namespace of a row is called where memories have namespaces."""
    rules = {"TEAM": Rule.TEAM, _GLOBAL: Rule.ORG}
    anchor = _anchor(access, rules[row.scope]) if row.scope in rules else row.workspace_id
    return f"{_KINDS.get(row.scope, 'workspace')}:{anchor or row.workspace_id}"


def _forgotten(author: UUID, row: store.Row, namespace: str) -> AuditEntry:
    digest = hashlib.sha256(row.content.encode()).digest()
    return acts.forgotten(author, row.id, namespace, digest)


def _not_owned() -> NotFound:
    return NotFound("memory not found or not owned by this workspace", reason="MEMORY_NOT_FOUND")
