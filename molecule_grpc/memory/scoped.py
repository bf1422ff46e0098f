"""Memories for clients that know scopes: LOCAL, TEAM and GLOBAL are namespaces of the caller."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.kernel.errors import Denied, Invalid, NotFound
from molecule_grpc.memory.memories import Memories
from molecule_grpc.memory.ports import Changing
from molecule_grpc.memory.rendering import escape, scope_of
from molecule_grpc.memory.search_values import Found, Query
from molecule_grpc.memory.values import Access, Change, Committed, Draft, Rule

MOST_ROWS: Final = 50
DEFAULT_LABEL: Final = "general"
_RULES: Final = {"LOCAL": (Rule.OWN,), "TEAM": (Rule.TEAM,), "GLOBAL": (Rule.ORG,)}


class ScopedMemory(NamedTuple):
    """A memory as these clients read it.

    Args:
        author_id: None if the author was purged.
        label: what these clients call a namespace.
        similarity: cosine to the query; None where meaning was not compared.
    """

    id: UUID
    author_id: UUID | None
    content: str
    scope: str
    label: str
    created_at: datetime
    similarity: float | None


class ScopedUpdate(NamedTuple):
    """A memory after an update; see `Updated`."""

    id: UUID
    scope: str
    label: str
    changed: bool


class ScopedMemories:
    """The same memories as `Memories` has, found and stored by scope."""

    def __init__(self, memories: Memories, changes: Changing) -> None:
        self._memories = memories
        self._changes = changes

    async def commit(
        self, author: UUID, content: str, scope: str, label: str = DEFAULT_LABEL
    ) -> Committed:
        """Store a memory under a scope: LOCAL, TEAM or GLOBAL.

        Raises:
            Denied: GLOBAL_NEEDS_ROOT.
            Invalid: the scope is none of these; what `Commits.commit` raises.
        """
        target = writable(await self._memories.access(author), scope)
        draft = Draft(content=content, namespace=target, label=label or DEFAULT_LABEL)
        return await self._memories.commit(author, draft)

    async def list_rows(
        self, reader: UUID, *, text: str = "", scope: str = "", label: str = "", limit: str = ""
    ) -> list[ScopedMemory]:
        """At most 50 memories: best first with a text, else newest first.

        Args:
            reader: the workspace that reads.
            text: what to look for.
            scope: empty for what the reader wrote, in any scope.
            label: only memories with it; empty for any.
            limit: how many; 50 unless it is a number from 1 to 50.

        Raises:
            Invalid: the scope is unknown.
        """
        scope = scope.upper()
        query = Query(
            text=text,
            namespaces=readable(await self._memories.access(reader), scope),
            author_id=None if scope else reader,
            limit=limited(limit),
            label=label,
        )
        found = await self._memories.search(reader, query, rest=True)
        rows = _rows(found)
        return rows if text else sorted(rows, key=lambda row: row.created_at, reverse=True)

    async def recall(self, reader: UUID, text: str, scope: str) -> list[ScopedMemory]:
        """At most 50 memories for an agent; TEAM means its own memories and its team's.

        Args:
            reader: the workspace that reads.
            text: what to look for; newest first without one.
            scope: empty for everything that the reader can read.

        Raises:
            Invalid: the scope is unknown.
        """
        access = await self._memories.access(reader)
        own = readable(access, "LOCAL") if scope == "TEAM" else ()
        namespaces = (*own, *readable(access, scope))
        query = Query(text=text, namespaces=namespaces, limit=MOST_ROWS)
        return _rows(await self._memories.search(reader, query))

    async def update(
        self, author: UUID, memory_id: UUID, *, content: str | None, label: str | None
    ) -> ScopedUpdate:
        """Change what the author wrote.

        Raises:
            Invalid: neither is given.
            NotFound: MEMORY_NOT_FOUND, also where somebody else wrote it.
        """
        if content is None and label is None:
            raise Invalid("content or namespace is required", field="content")
        change = Change(content=content, label=label)
        try:
            done = await self._changes.update(author, memory_id, change, own=True)
        except NotFound as error:
            raise _not_owned(error) from error
        return ScopedUpdate(done.id, scope_of(done.namespace), escape(done.label), done.changed)

    async def forget(self, author: UUID, memory_id: UUID) -> None:
        """Remove what the author wrote. Raises `NotFound` MEMORY_NOT_FOUND as `update` does."""
        try:
            await self._changes.forget(author, memory_id, own=True)
        except NotFound as error:
            raise _not_owned(error) from error


def writable(access: Access, scope: str) -> str:
    """The namespace that a scope means for a writer. Raises `Denied` or `Invalid`."""
    names = readable(access, scope)
    for name in names:
        found = access.of(name)
        if found is not None and found.writable:
            return name
    raise Denied("only root workspaces can write GLOBAL memories", reason="GLOBAL_NEEDS_ROOT")


def readable(access: Access, scope: str) -> tuple[str, ...]:
    """The namespaces that a scope means for a reader; all for no scope.

    Raises:
        Invalid: the scope is unknown.
    """
    if not scope:
        return tuple(access.readable)
    if scope not in _RULES:
        raise Invalid("scope must be LOCAL, TEAM, or GLOBAL", field="scope")
    return tuple(each.name for each in access.namespaces if each.rule in _RULES[scope])


def limited(text: str) -> int:
    """How many rows a client asks for; 50 unless the text is a number from 1 to 50."""
    try:
        limit = int(text)
    except ValueError:
        return MOST_ROWS
    return limit if 1 <= limit <= MOST_ROWS else MOST_ROWS


def _not_owned(error: NotFound) -> NotFound:
    if error.reason == "WORKSPACE_NOT_FOUND":
        return error
    return NotFound("memory not found or not owned by this workspace", reason="MEMORY_NOT_FOUND")


def _rows(found: Found) -> list[ScopedMemory]:
    return [
        ScopedMemory(
            hit.row.id,
            hit.row.author_id,
            hit.row.content,
            scope_of(hit.row.namespace),
            hit.row.label,
            hit.row.created_at,
            hit.similarity,
        )
        for hit in found.hits
    ]
