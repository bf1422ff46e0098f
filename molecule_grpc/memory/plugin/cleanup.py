"""Deletes from a plugin what belonged to purged workspaces, as often as it takes."""

from __future__ import annotations

import structlog
from prometheus_client import Gauge

from molecule_grpc.db.pool import Pool
from molecule_grpc.memory.contract.errors import ErrorCode, StoreError
from molecule_grpc.memory.plugin.client import PluginClient
from molecule_grpc.memory.plugin.store import cleanup as store

log = structlog.get_logger(__name__)

_BATCH = 50
_WAITING = Gauge(
    "molecule_memory_cleanup_waiting",
    "Namespaces of purged workspaces that the memory plugin has yet to delete.",
    multiprocess_mode="livemax",
)


class Cleanup:
    """Rows are noted in the transaction of the purge; any worker may work them off."""

    def __init__(self, pool: Pool, client: PluginClient) -> None:
        self._pool = pool
        self._client = client

    async def sweep(self) -> None:
        """Ask the plugin to delete what is due. NOT_FOUND counts as deleted."""
        while due := await store.take(self._pool, _BATCH):
            done = [each.id for each in due if await self._deleted(each)]
            await store.drop(self._pool, done)
            if len(done) < len(due):
                break
        _WAITING.set(await store.waiting(self._pool))

    async def _deleted(self, due: store.Due) -> bool:
        try:
            await self._client.delete_namespace(due.namespace)
        except StoreError as error:
            if error.code is ErrorCode.NOT_FOUND:
                return True
            log.warning(
                "a namespace of a purged workspace is still in the memory plugin",
                namespace=due.namespace,
                attempts=due.attempts,
                error=str(error),
            )
            return False
        return True
