"""Background steps of the slice: idempotent, without input, on every worker at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.settings.workspace import WorkspaceSettings
from molecule_grpc.workspace.store import registry

log = structlog.get_logger(__name__)

# A thousand workspaces in one statement kept Postgres from others for 5 ms.
_BATCH: Final = 100
_PAUSE_SECONDS: Final = 0.005
_BEFORE_ALL: Final = UUID(int=0)


async def sweep_liveness(
    pool: Pool, settings: WorkspaceSettings, tell_readers: Callable[[], None]
) -> int:
    """Move the workspaces that fell silent, and return how many.

    An external one waits for its agent again after `liveness_stale_after`; any other is offline
    after `liveness_ttl`. Only online and degraded ones are looked at.

    Args:
        tell_readers: wakes the readers of the feed of events.
    """
    last = _BEFORE_ALL

    async def step(limit: int) -> int:
        nonlocal last
        moved = await registry.sweep_silent(
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
