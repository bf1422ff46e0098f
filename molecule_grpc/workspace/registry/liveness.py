"""The sweep that finds silent workspaces: a background step that every worker runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.settings.workspace import WorkspaceSettings
from molecule_grpc.workspace.registry.store import liveness as store

log = structlog.get_logger(__name__)

# A thousand workspaces in one statement kept Postgres from others for 5 ms.
_BATCH: Final = 100
_PAUSE_SECONDS: Final = 0.005
_BEFORE_ALL: Final = UUID(int=0)


async def sweep_liveness(
    pool: Pool, settings: WorkspaceSettings, tell_readers: Callable[[], None]
) -> int:
    """Move the online and degraded workspaces that fell silent, and return how many moved.

    An external one awaits its agent again after `liveness_stale_after` seconds of silence; any
    other is offline after `liveness_ttl`.

    Args:
        tell_readers: wakes the readers of the feed of events.
    """
    last = _BEFORE_ALL

    async def step(limit: int) -> int:
        nonlocal last
        moved = await store.sweep_silent(
            pool, settings.liveness_stale_after, settings.liveness_ttl, after=last, limit=limit
        )
        if moved:
            last = moved[-1]
            tell_readers()
        return len(moved)

    count = await in_batches("liveness", step, batch=_BATCH, pause=_PAUSE_SECONDS)
    if count:
        log.info("workspaces fell silent", count=count)
    return count
