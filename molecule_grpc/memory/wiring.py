"""Opens the slice for one worker: search first, then the store, then what faces call."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
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
from molecule_grpc.memory.ports import Audit, Changing, Committing, Exporting, Workspaces
from molecule_grpc.memory.scoped import ScopedMemories
from molecule_grpc.memory.seeds import Seeds
from molecule_grpc.memory.service import MemoryService, handlers
from molecule_grpc.memory.session import SessionMemories


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
    session: SessionMemories | PluginSession
    rights: Grants | PluginRights
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
    if plugin is None:
        commits: Committing = rooms.commits
        memories = Memories(
            rooms.namespaces, rooms.commits, rooms.changes, rooms.reads, search.search
        )
        changes: Changing = rooms.changes
    else:
        commits = changes = backend = plugin.memories
        memories = Memories(rooms.namespaces, backend, backend, backend, backend)
    scoped = ScopedMemories(memories, changes)
    exports: Exporting = Exports(core.pool) if plugin is None else plugin.exports
    imports = Imports(core.pool, commits)
    if legacy:
        scoped = LegacyScoped(core.pool, memories, changes, audit)
        exports = LegacyExports(core.pool)
        imports = Imports(core.pool, LegacyCommits(core.pool, audit))
    workspaces.on_created(Seeds(rooms.namespaces, commits).store)
    session: SessionMemories | PluginSession = SessionMemories(
        core.pool, rooms.namespaces, seconds=core.settings.budgets.search_seconds
    )
    rights: Grants | PluginRights = rooms.grants
    if plugin is not None:
        session = PluginSession(memories)
        rights = PluginRights(core.pool, rooms.grants, plugin.client, plugin.key)
    service = MemoryService(memories, scoped, KeyValues(core.pool, core.page_tokens))
    tasks = [*search.tasks, *rooms.tasks, *(plugin.tasks if plugin else ())]
    return MemorySlice(
        slice=Slice(handlers=[handlers(service)], tasks=tasks, loops=search.loops),
        memories=memories,
        scoped=scoped,
        session=session,
        rights=rights,
        exports=exports,
        imports=imports,
    )
