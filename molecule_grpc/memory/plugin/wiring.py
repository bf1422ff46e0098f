"""Opens a plugin in place of the built-in store, where the settings name one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from molecule_grpc.core import Core
from molecule_grpc.db.installation import page_token_key
from molecule_grpc.db.pool import Connection
from molecule_grpc.memory.contract.errors import StoreError
from molecule_grpc.memory.embedding.port import Embedder
from molecule_grpc.memory.plugin.cleanup import Cleanup
from molecule_grpc.memory.plugin.client import PluginClient
from molecule_grpc.memory.plugin.cutover import announce
from molecule_grpc.memory.plugin.exports import PluginExports
from molecule_grpc.memory.plugin.memories import PluginMemories
from molecule_grpc.memory.plugin.store import cleanup as store
from molecule_grpc.memory.ports import Audit, Workspaces
from molecule_grpc.memory.rates import CommitRate
from molecule_grpc.server.tasks import BackgroundTask

_REFRESH_SECONDS = 30.0
_CLEANUP_SECONDS = 15.0
_CLEANUP_TIMEOUT_SECONDS = 600.0
# A purge is noted before its commit, and visible soon after.
_AFTER_COMMIT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class PluginParts:
    """A plugin that serves.

    Args:
        memories: commits, changes, reads and searches, in place of the built-in ones.
        exports: all memories on their way out.
        key: of the installation, for ids of organisations beside the first.
        tasks: ask the plugin what it can do, and delete what was purged.
    """

    memories: PluginMemories
    exports: PluginExports
    client: PluginClient
    key: bytes
    tasks: Sequence[BackgroundTask]


@contextlib.asynccontextmanager
async def open_plugin(
    core: Core, audit: Audit, workspaces: Workspaces, embedder: Embedder
) -> AsyncIterator[PluginParts | None]:
    """The plugin of the settings, while inside; None where the built-in store serves.

    A plugin that does not answer holds nothing up: calls fail until it does.

    Raises:
        SettingsError: MEMORY_STRICT=1, and only half is configured.
    """
    settings = core.settings.plugin
    if not settings.remote_url:
        announce(settings, None, ())
        yield None
        return
    client = PluginClient(settings.remote_url, settings.timeout)
    async with client:
        announce(settings, await _probed(client), client.capabilities)
        cleanup = BackgroundTask(
            "memory-cleanup",
            _CLEANUP_SECONDS,
            Cleanup(core.pool, client).sweep,
            timeout=_CLEANUP_TIMEOUT_SECONDS,
        )

        async def purge(conn: Connection, workspace_ids: list[UUID]) -> None:
            await store.add(conn, workspace_ids)
            asyncio.get_running_loop().call_later(_AFTER_COMMIT_SECONDS, cleanup.nudge)

        workspaces.on_purge(purge)
        key = await page_token_key(core.pool)
        memories = PluginMemories(
            core.pool,
            client,
            key=key,
            audit=audit,
            rate=CommitRate(core.settings.memory.commits_per_minute),
            embedder=embedder,
        )
        refresh = BackgroundTask("memory-plugin", _REFRESH_SECONDS, client.refresh)
        exports = PluginExports(core.pool, client, key)
        yield PluginParts(memories, exports, client, key, [refresh, cleanup])


async def _probed(client: PluginClient) -> str | None:
    """Why the plugin does not answer; None if it does."""
    try:
        await client.refresh()
    except StoreError as error:
        return error.message
    return None
