"""Opens the slice for one worker, in this order: search, store, objects that faces call."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.core import Core, Slice
from molecule_grpc.memory.exports import Exports
from molecule_grpc.memory.grants import Grants
from molecule_grpc.memory.imports import Imports
from molecule_grpc.memory.key_values import KeyValues
from molecule_grpc.memory.legacy.scoped import LegacyScoped
from molecule_grpc.memory.legacy.serving import serves_legacy_table
from molecule_grpc.memory.legacy.transfer import LegacyCommits, LegacyExports
from molecule_grpc.memory.memories import Memories
from molecule_grpc.memory.opening import Rooms, open_memories
from molecule_grpc.memory.opening_search import SearchParts, open_search
from molecule_grpc.memory.plugin.rights import PluginRights
from molecule_grpc.memory.plugin.session import PluginSession
from molecule_grpc.memory.plugin.wiring import PluginParts, open_plugin
from molecule_grpc.memory.ports import (
    Audit,
    Changing,
    Committing,
    Exporting,
    Finding,
    Reading,
    Workspaces,
)
from molecule_grpc.memory.scoped import ScopedMemories
from molecule_grpc.memory.seeds import Seeds
from molecule_grpc.memory.service import MemoryService, handlers
from molecule_grpc.memory.session import SessionFinding, SessionMemories


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySlice:
    """What the worker, the faces and other slices need of this one.

    Args:
        slice: handlers, tasks and loops.
        memories: what agents remember.
        scoped: the same for clients that know scopes.
        session: what a search through a session finds.
        rights: what operators may do.
    """

    slice: Slice
    memories: Memories
    scoped: ScopedMemories
    session: SessionFinding
    rights: Grants
    exports: Exporting
    imports: Imports


@contextlib.asynccontextmanager
async def open_memory(
    core: Core, audit: Audit, workspaces: Workspaces
) -> AsyncIterator[MemorySlice]:
    """The slice, while inside.

    Args:
        audit: enters rows into the records of workspaces.
        workspaces: tells of new and purged workspaces, and of questions about quotas.
    """
    async with contextlib.AsyncExitStack() as stack:
        noted: list[Rooms] = []

        def recalled(organization_id: UUID, ids: Sequence[UUID]) -> None:
            for rooms in noted:
                rooms.upkeep.recalled(organization_id, ids)

        search = await stack.enter_async_context(open_search(core, recalled=recalled))
        rooms = await stack.enter_async_context(
            open_memories(core, audit, reader=search.reader, similar=search.similar)
        )
        noted.append(rooms)
        plugin = await stack.enter_async_context(
            open_plugin(core, audit, workspaces, search.embedder)
        )
        workspaces.on_purge(rooms.upkeep.purge)
        workspaces.on_uses(rooms.quota_uses)
        legacy = await serves_legacy_table(core.pool, core.settings.plugin)
        yield _slice(core, audit, workspaces, rooms, search, plugin, legacy=legacy)


class _Store(NamedTuple):
    """Where memories are kept."""

    commits: Committing
    changes: Changing
    reads: Reading
    search: Finding
    exports: Exporting
    rights: Grants


def _store(core: Core, rooms: Rooms, search: SearchParts, plugin: PluginParts | None) -> _Store:
    """The plugin if there is one, else the built-in store."""
    if plugin is None:
        exports = Exports(core.pool)
        return _Store(
            rooms.commits, rooms.changes, rooms.reads, search.search, exports, rooms.grants
        )
    kept = plugin.memories
    rights = PluginRights(core.pool, plugin.client, plugin.key)
    return _Store(kept, kept, kept, kept, plugin.exports, rights)


def _session(
    core: Core, rooms: Rooms, memories: Memories, plugin: PluginParts | None
) -> SessionFinding:
    if plugin is not None:
        return PluginSession(memories)
    seconds = core.settings.budgets.search_seconds
    return SessionMemories(core.pool, rooms.namespaces, seconds=seconds)


class _Scopes(NamedTuple):
    """What clients that know scopes, and their export and import, use."""

    memories: ScopedMemories
    exports: Exporting
    imports: Imports


def _scopes(
    core: Core, audit: Audit, store: _Store, memories: Memories, *, legacy: bool
) -> _Scopes:
    """The table of an old installation until the cutover, else the same store as all others."""
    pool = core.pool
    if legacy:
        return _Scopes(
            LegacyScoped(pool, memories, store.changes, audit),
            LegacyExports(pool),
            Imports(pool, LegacyCommits(pool, audit)),
        )
    scoped = ScopedMemories(memories, store.changes)
    return _Scopes(scoped, store.exports, Imports(pool, store.commits))


def _slice(
    core: Core,
    audit: Audit,
    workspaces: Workspaces,
    rooms: Rooms,
    search: SearchParts,
    plugin: PluginParts | None,
    *,
    legacy: bool,
) -> MemorySlice:
    store = _store(core, rooms, search, plugin)
    memories = Memories(rooms.namespaces, store.commits, store.changes, store.reads, store.search)
    scopes = _scopes(core, audit, store, memories, legacy=legacy)
    workspaces.on_created(Seeds(rooms.namespaces, store.commits).store)
    values = KeyValues(core.pool, core.page_tokens)
    service = MemoryService(memories, scopes.memories, values)
    tasks = [*search.tasks, *rooms.tasks, *(plugin.tasks if plugin else ())]
    return MemorySlice(
        slice=Slice(handlers=[handlers(service)], tasks=tasks, loops=search.loops),
        memories=memories,
        scoped=scopes.memories,
        session=_session(core, rooms, memories, plugin),
        rights=store.rights,
        exports=scopes.exports,
        imports=scopes.imports,
    )
